"""The script that a server runs against the algorithms that it repeats: the same tallies, to the last bit."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer_py.ratelimit.algorithms import COUNT, SECOND, State, Tally, Terms
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.redis.channel import Refusal, next_reply
from mixer_py.ratelimit.stores.redis.script import (
    call,
    charge_script,
    command,
    header,
    key_of,
    records,
    tallies_of,
)
from tests.parts.presence import find_server
from tests.parts.valkey import Valkey, find_valkey

NOW = 1_700_000_000 * SECOND
PARTS = {"valkey": find_valkey, "redis": lambda: find_server("redis")}
Group = tuple[bool, list[Charge]]


class Server:
    """One connection to a real server."""

    def __init__(self, valkey: Valkey) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(60)
        self._connection.connect(str(valkey.socket))

    def ask(self, sent: bytes) -> bytes | Refusal:
        self._connection.sendall(sent)
        received, reply = b"", None
        while reply is None:
            received += self._connection.recv(1 << 16)
            if received.startswith((b"+", b":")):
                return received
            reply, _ = next_reply(received, 0)
        return reply

    def charge(
        self, groups: list[Group], now: int | None = NOW, jitter: float = 600.0, *, flags: bool = True
    ) -> list[Tally | None]:
        charges = [one for _, group in groups for one in group]
        keys = [key_of("t:", one.identity) for one in charges]
        arguments = header(now, jitter, 0.3), b"".join(records(group, together=all_) for all_, group in groups)
        reply = self.ask(call(charge_script(flags=flags), keys, arguments, declared=True, whole=True))
        assert isinstance(reply, bytes), reply
        return tallies_of(reply, len(charges))[0]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module", params=[pytest.param(part, marks=getattr(pytest.mark, part)) for part in PARTS])
def server(request: pytest.FixtureRequest, module_programs, ports) -> Iterator[Server]:
    connection = Server(Valkey(module_programs, ports, program=PARTS[request.param]()))
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def nothing_is_kept(server: Server) -> None:
    server.ask(command(b"FLUSHALL"))


class Model:
    """The algorithms over states that are never over."""

    def __init__(self) -> None:
        self.states: dict[tuple, State] = {}

    def charge(self, groups: list[Group], now: int) -> list[Tally]:
        tallies = []
        resets: dict[tuple, int] = {}
        for together, group in groups:
            before, resets_before = dict(self.states), dict(resets)
            made = [self._count(one, now, resets, always=not together) for one in group]
            if together and not all(tally.admitted for tally in made):
                self.states, resets = before, resets_before
                looks = [self._count(one._replace(hits=0), now, resets, always=False) for one in group]
                made = [look if tally.admitted else tally for tally, look in zip(made, looks, strict=True)]
            tallies += made
        for identity, reset in resets.items():
            if identity in self.states and reset <= 0:
                del self.states[identity]
        return tallies

    def _count(self, one: Charge, now: int, resets: dict[tuple, int], *, always: bool) -> Tally:
        always = always and one.terms.always
        state = self.states.get(one.identity)
        after, tally = COUNT[one.terms.algorithm](state, now, one.terms, one.hits, always=always)
        if one.hits and (tally.admitted or always) and (state is not None or after.used):
            self.states[one.identity] = after
            resets[one.identity] = tally.reset
        return tally


def charge(who: str, algorithm: str, window: int, limit: int, burst: int, hits: int, overdraw: bool = False) -> Charge:
    most = burst if algorithm == "token_bucket" else limit
    terms = Terms(algorithm, window, limit, most, overdraw)  # type: ignore[arg-type]
    return Charge((who, algorithm, str(window)), terms, hits)


LIMITS = st.sampled_from([0, 1, 3, 10, 1000, 2**32 - 1])
CHARGES = st.builds(
    charge,
    st.sampled_from("abc"),
    st.sampled_from(sorted(COUNT)),
    st.sampled_from([1, 7, SECOND, 60 * SECOND, 31_536_000 * SECOND]),
    LIMITS,
    LIMITS,
    st.sampled_from([0, 1, 1, 1, 2, 7, 999, 2**40, 2**53, 2**64 - 1, -1, -2, -(2**60)]),
    st.booleans(),
)
GROUPS = st.lists(st.tuples(st.booleans(), st.lists(CHARGES, min_size=1, max_size=4)), min_size=1, max_size=5)
WAITS = st.sampled_from([0, 1, 3, 400_000, SECOND, 59 * SECOND, 3600 * SECOND, -1, -SECOND, -61 * SECOND])
STEPS = st.lists(st.tuples(WAITS, GROUPS), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_it_counts_as_the_algorithms_do(server: Server, steps: list[tuple[int, list[Group]]]) -> None:
    server.ask(command(b"FLUSHALL"))
    model, now = Model(), NOW
    for wait, groups in steps:
        now += wait
        assert server.charge(groups, now) == model.charge(groups, now)


def test_it_counts_the_same_without_the_line_that_older_servers_do_not_know(server: Server) -> None:
    group = (False, [charge("a", algorithm, SECOND, 3, 3, 2) for algorithm in sorted(COUNT)])
    first, second = server.charge([group], flags=False), server.charge([group], flags=True)
    model = Model()
    assert [first, second] == [model.charge([group], NOW), model.charge([group], NOW)]


def test_it_goes_by_the_servers_clock_where_it_is_told_no_time(server: Server) -> None:
    before = time.time_ns() // 1000
    (tally,) = server.charge([(False, [charge("a", "fixed_window", 3600 * SECOND, 5, 5, 1)])], now=None)
    after = time.time_ns() // 1000
    assert tally is not None
    assert before <= (before // (3600 * SECOND) + 1) * 3600 * SECOND - tally.reset <= after + SECOND


@pytest.mark.parametrize("algorithm", sorted(COUNT))
def test_a_counter_expires_some_time_after_its_end(server: Server, algorithm: str) -> None:
    charges = [charge(f"{number}", algorithm, 3600 * SECOND, 5, 5, 1) for number in range(100)]
    tallies = server.charge([(False, charges)], jitter=1000.0)
    late = []
    for one, tally in zip(charges, tallies, strict=True):
        answer = server.ask(command(b"PTTL", key_of("t:", one.identity)))
        assert isinstance(answer, bytes)
        assert tally is not None
        late.append(int(answer[1:-2]) / 1000 - tally.reset / SECOND)
    assert 400 < min(late) < 600
    assert 900 < max(late) <= 1001
    assert len({round(one) for one in late}) > 50


@given(st.lists(st.text(max_size=5) | st.binary(max_size=5)), st.lists(st.text(max_size=5) | st.binary(max_size=5)))
def test_keys_are_equal_only_for_equal_identities(one: list[str | bytes], other: list[str | bytes]) -> None:
    assert (key_of("p", tuple(one)) == key_of("p", tuple(other))) == (one == other)
