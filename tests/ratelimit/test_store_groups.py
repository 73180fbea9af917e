"""Clusters and Sentinels whose servers fail, move and take over: it heals, and nothing is counted twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.crc import key_slot

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.algorithms import SECOND, Tally, Terms
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import Charge, CounterStore
from mixer_py.ratelimit.stores.opening import open_store
from mixer_py.ratelimit.stores.redis.script import key_of
from mixer_py.ratelimit.stores.redis.topology import Topology, ranges_of
from tests.parts.tcp_proxy import SlowProxy
from tests.parts.valkey import Valkey
from tests.parts.valkey_groups import Cluster, Watched, keys_of

pytestmark = pytest.mark.valkey
TERMS = Terms("fixed_window", 3600 * SECOND, 1000, 1000)


def charge(who: str = "a", hits: int = 1, limit: int = 1000) -> Charge:
    return Charge(("d", who), TERMS._replace(limit=limit, burst=limit), hits)


def slot_of(who: str) -> int:
    return key_slot(key_of("mixer:", ("d", who)))


@pytest.fixture
def cluster(request: pytest.FixtureRequest, programs, ports) -> Cluster:
    """Three masters, each with as many replicas as the test asks for."""
    return Cluster(programs, ports, replicas=getattr(request, "param", 0))


@pytest.fixture
async def store(request: pytest.FixtureRequest, clock: FakeClock, registry: Registry) -> AsyncIterator[CounterStore]:
    """In the cluster of the test."""
    uri = request.getfixturevalue("cluster").uri
    settings = RateLimitSettings.model_validate(
        {"store": uri, "timeout": "10s", "time": "caller", "redis": {"connect_timeout": "30s"}}
    )
    opened = open_store(settings, registry, clock)
    opened.open()
    yield opened
    await opened.close()


async def left(store: CounterStore, *charges: Charge, together: bool = False) -> list[int | None]:
    return [tally and tally.remaining for tally in await store.charge(charges, together=together)]


async def until_kept(store: CounterStore, *charges: Charge, seconds: float = 60) -> list[Tally | None]:
    end = time.monotonic() + seconds
    while True:
        try:
            tallies = await store.charge(charges)
        except CounterStoreError:
            tallies = [None]
        if None not in tallies:
            return list(tallies)
        assert time.monotonic() < end, "it does not heal"
        await asyncio.sleep(0.05)


async def test_a_key_whose_slot_has_moved_is_charged_once_at_its_new_node(cluster, store, registry) -> None:
    first, second, _ = cluster.masters
    who = next(f"w{n}" for n in range(1000) if slot_of(f"w{n}") < 5000)
    other = next(f"o{n}" for n in range(1000) if 5000 > slot_of(f"o{n}") != slot_of(who))
    assert await left(store, charge(other)) == [999]
    cluster.move(slot_of(who), first, second)
    assert await left(store, charge(who), charge(other)) == [999, 998]
    assert await left(store, charge(who), charge(other), together=True) == [998, 997]
    second.ask("FLUSHALL")
    cluster.move(slot_of(who), second, cluster.masters[2])
    assert await left(store, charge(who), charge(other), together=True) == [999, 996]
    moved = registry.counter("mixer_store_errors_total", "", ("reason",)).labels("moved")
    assert moved.value == 0


@pytest.mark.parametrize("together", [False, True])
async def test_a_slot_that_is_moved_key_by_key_loses_no_hit(cluster, store, registry, *, together: bool) -> None:
    slot = slot_of("w0")
    source = next(node for number, node in enumerate(cluster.masters) if slot * 3 // 16384 == number)
    target, third = (node for node in cluster.masters if node is not source)
    same = [f"s{n}" for n in range(200_000) if slot_of(f"s{n}") == slot][:2]
    other = next(f"o{n}" for n in range(1000) if slot_of(f"o{n}") * 3 // 16384 != slot * 3 // 16384)
    charges = [charge(who) for who in ("w0", *same, other)]
    assert await left(store, charges[0], charges[3], together=together) == [999, 999]
    cluster.begin_to_move(slot, source, target)
    for number in range(1, 4):  # the first is where it was; the others are made where they go
        assert await left(store, *charges, together=together) == [999 - number, *[1000 - number] * 2, 999 - number]
    assert [len(keys_of(slot, node)) for node in (source, target)] == [1, 2]
    cluster.move_keys(slot, source, target)
    assert await left(store, *charges, together=together) == [995, 996, 996, 995]
    assert keys_of(slot, source) == []
    cluster.move(slot, source, target)
    assert await left(store, *charges, together=together) == [994, 995, 995, 994]
    cluster.begin_to_move(slot, target, third)
    cluster.move_keys(slot, target, third)
    assert await left(store, *charges, together=together) == [993, 994, 994, 993]
    errors = registry.counter("mixer_store_errors_total", "", ("reason",))
    assert [errors.labels(reason).value for reason in ("moved", "nonsense", "timeout")] == [0, 0, 0]


async def test_many_at_once_are_counted_exactly_while_their_slot_is_moved(cluster, store) -> None:
    slot = slot_of("w0")
    source = next(node for number, node in enumerate(cluster.masters) if slot * 3 // 16384 == number)
    target = next(node for node in cluster.masters if node is not source)
    cluster.begin_to_move(slot, source, target)
    answers = await asyncio.gather(*(store.charge([charge("w0", limit=60)]) for _ in range(100)))
    assert sum(answer[0].admitted for answer in answers) == 60
    cluster.move_keys(slot, source, target)
    cluster.move(slot, source, target)
    assert await left(store, charge("w0")) == [1000 - 101]


async def test_a_node_that_refuses_asking_is_not_taken_for_away(cluster, store, registry) -> None:
    slot = slot_of("w0")
    source = next(node for number, node in enumerate(cluster.masters) if slot * 3 // 16384 == number)
    number, target = next((number, node) for number, node in enumerate(cluster.masters) if node is not source)
    there = next(f"o{n}" for n in range(1000) if slot_of(f"o{n}") * 3 // 16384 == number)
    assert await left(store, charge(there)) == [999]
    assert target.ask("ACL", "SETUSER", "default", "-asking") == b"+OK\r\n"
    cluster.begin_to_move(slot, source, target)
    assert await left(store, charge("w0"), charge(there)) == [None, 998]
    assert await left(store, charge(there)) == [997]
    assert not store.is_away
    moved = registry.counter("mixer_store_errors_total", "", ("reason",)).labels("moved")
    assert moved.value == 1


async def test_what_goes_together_over_several_nodes_is_charged_whole_or_not_at_all(cluster, store) -> None:
    names = [f"n{number}" for number in range(9)]
    assert len({slot_of(name) * 3 // 16384 for name in names}) == 3
    tight = [charge(name, limit=5 if name == "n4" else 1000) for name in names]
    for _ in range(5):
        await store.charge(tight, together=True)
    assert await left(store, *tight, together=True) == [0 if name == "n4" else 995 for name in names]
    assert await left(store, *(one._replace(hits=0) for one in tight)) == [0 if n == "n4" else 995 for n in names]


async def test_together_over_several_nodes_never_passes_a_limit(cluster, store) -> None:
    charges = [charge(f"n{number}", limit=40) for number in range(6)]
    answers = await asyncio.gather(*(store.charge(charges, together=True) for _ in range(200)))
    admitted = sum(all(tally.admitted for tally in answer) for answer in answers)
    assert admitted <= 40
    assert await left(store, *(one._replace(hits=0) for one in charges)) == [40 - admitted] * 6


async def test_a_master_that_dies_takes_only_its_own_counters_along(cluster, store, registry) -> None:
    names = [f"n{number}" for number in range(30)]
    assert await left(store, *map(charge, names)) == [999] * 30
    cluster.masters[0].ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    for node in cluster.masters[1:]:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    cluster.masters[0].kill()
    answers = await left(store, *map(charge, names))
    dead = [slot_of(name) < 16384 // 3 for name in names]
    assert [answer is None for answer in answers] == dead
    assert {answer for answer in answers if answer is not None} == {998}
    cluster.masters[0].start()
    await until_kept(store, *map(charge, names))


@pytest.mark.parametrize("cluster", [1], indirect=True)
async def test_a_replica_that_takes_over_is_found(cluster, store) -> None:
    names = [f"n{number}" for number in range(12)]
    assert await left(store, *map(charge, names)) == [999] * 12
    cluster.masters[1].kill()
    assert None not in await until_kept(store, *map(charge, names))


async def test_sentinels_lead_to_the_new_master(programs, ports, clock, registry) -> None:
    watched = Watched(programs, ports)
    settings = RateLimitSettings.model_validate({"store": watched.uri, "timeout": "300ms", "time": "caller"})
    store = open_store(settings, registry, clock)
    store.open()
    assert (await until_kept(store, charge()))[0].remaining == 999
    watched.master.kill()
    with pytest.raises(CounterStoreError):
        await store.charge([charge()])
    assert (await until_kept(store, charge(), seconds=120))[0].remaining >= 998
    assert b"role:master" in watched.replica.ask("INFO", "replication")
    await store.close()


NONSENSE = (
    b"HTTP/1.1 400 no\r\n\r\n",
    b":1\r\n",
    b"$none\r\n",
    b"*1\r\n" * 5000,
    b"-NOPERM no\r\n",
    b"*1\r\n$1\r\na\r\n",
)


@pytest.mark.parametrize("answer", NONSENSE)
async def test_a_sentinel_that_answers_nonsense_leaves_it_to_the_others(
    programs, ports, clock, registry, answer: bytes
) -> None:
    watched = Watched(programs, ports, sentinels=2)
    with SlowProxy(watched.sentinels[0].port) as first, SlowProxy(watched.sentinels[1].port) as second:
        first.nonsense = second.nonsense = answer
        store = open_store(
            RateLimitSettings.model_validate({"store": watched.uri_by(first.port, second.port), "timeout": "5s"}),
            registry,
            clock,
        )
        store.open()
        with pytest.raises(CounterStoreError):
            await store.charge([charge()])
        second.nonsense = b""
        assert (await until_kept(store, charge()))[0].remaining == 999
        await store.close()


@pytest.mark.parametrize("answer", [b"$none\r\n", b"*1\r\n" * 5000])
async def test_a_server_that_answered_nonsense_is_asked_again(programs, ports, clock, registry, answer: bytes) -> None:
    with SlowProxy(Valkey(programs, ports).port) as proxy:
        proxy.nonsense = answer
        settings = {"store": f"redis://127.0.0.1:{proxy.port}", "timeout": "300ms"}
        store = open_store(RateLimitSettings.model_validate(settings), registry, clock)
        store.open()
        with pytest.raises(CounterStoreError):
            await store.charge([charge()])
        proxy.nonsense = b""
        assert (await until_kept(store, charge(), seconds=20))[0].remaining == 999
        await store.close()


class AllOnTheirWay:
    """A cluster of which every slot is being moved; no program of Valkey's moves more than one at a time."""

    def __init__(self) -> None:
        self.asked = self.most = 0

    async def ask(self, host: str, port: int, *words: str | bytes) -> object:
        if words[0] == "CLUSTER":
            return [[0, 16383, [host.encode(), port, b"id"]]]
        self.asked += 1
        self.most = max(self.most, self.asked)
        await asyncio.sleep(0)
        self.asked -= 1
        raise CounterStoreError(f"ASK 1 {host}:{port + 1}")


class QuietNode:
    is_away = False

    def start(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nor to leave."""


async def test_slots_on_their_way_are_asked_after_over_few_connections_at_a_time() -> None:
    connector = AllOnTheirWay()
    topology = Topology([("node", 1)], connector, lambda _: QuietNode())
    topology.open()
    await topology.renewed(dict.fromkeys(range(200), b"key"))
    assert connector.most == 16
    assert all(topology.target_of(slot) for slot in range(200))
    await topology.close()


@pytest.mark.parametrize(
    "answer", [None, [], b"x", [[1]], [[0, 16384, [b"h", 1]]], [[0, 5, []]], [[b"a", 1, [b"h", 1]]]]
)
def test_a_topology_that_makes_no_sense_is_refused(answer: object) -> None:
    with pytest.raises(CounterStoreError):
        ranges_of(answer, "asked")


@pytest.mark.parametrize("host", [b"", None, b"?"])
def test_a_node_that_does_not_know_its_own_host_is_where_it_was_asked(host: bytes | None) -> None:
    assert ranges_of([[0, 16383, [host, 7000, b"id"], [b"replica", 7001]]], "asked") == [(0, 16383, ("asked", 7000))]
