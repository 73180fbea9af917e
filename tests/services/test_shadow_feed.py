"""A candidate is asked about a share of the checks; whatever it does, every record is handed on once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.errors import InvalidRequestError
from mixer_py.instruments import Registry, SystemClock
from mixer_py.policy.shadow_settings import ShadowSettings
from mixer_py.services.shadow_feed import ShadowFeed
from mixer_py.services.shadow_frames import CHECK, GOODBYE, VERDICT, decode_verdict, encode_check, encode_verdict
from mixer_py.telemetry.decision_record import DecisionRecord, ShadowOutcome

YES = ShadowOutcome("allow", "data.x", "why", "rev2")


class Log(list[DecisionRecord]):
    """A decision log that knows what it keeps room for."""

    held = 0
    bytes = 0
    full = False

    def hold(self, size: int) -> bool:
        if self.full:
            return False
        self.held += 1
        self.bytes += size
        return True

    def record_held(self, record: DecisionRecord, size: int) -> None:
        self.held -= 1
        self.bytes -= size
        self.append(record)

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """Decision ids with the candidate's verdicts, in the order in which they were handed on."""
        return [(record.decision_id, record.shadow.verdict) for record in self]


class Candidate:
    """The other end: gathers checks, and does as it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checks: asyncio.Queue[tuple[int, float, bytes]] = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []
        self.reads = True
        self.over = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while self.reads:
                number, expires, length = CHECK.unpack(await reader.readexactly(CHECK.size))
                self.checks.put_nowait((number, expires, await reader.readexactly(length)))
        await self.over.wait()  # it may still have something to say

    async def answer(self, outcome: ShadowOutcome = YES, *, line: int = -1) -> bytes:
        number, _, message = await asyncio.wait_for(self.checks.get(), 30)
        self.writers[line].write(encode_verdict(number, outcome))
        return message

    async def close(self) -> None:
        self.over.set()
        for writer in self.writers:
            writer.transport.abort()
        if self._server is not None:
            self._server.close()
            await asyncio.sleep(0.01)  # its connections' tasks end


def settings(**keys: Any) -> ShadowSettings:
    return ShadowSettings(**{"bundles": ("x",), "share": 1.0, "timeout": "10s"} | keys)


def record(name: str) -> DecisionRecord:
    return DecisionRecord(
        CheckRequest(), 0, 0.0, "allow", name, "d", "", "", "", "rev1", 0, "rvm", "bypass", dry_run=False
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


class Scene:
    """A feed, its log, its counters and the candidate."""

    def __init__(self, folder: Path) -> None:
        self.candidate = Candidate(folder / "s")
        self.log = Log()
        self.registry = Registry()
        self.draws: Iterable[float] = iter(())
        self.feed = ShadowFeed(
            folder / "s", self.log, self.registry, SystemClock(), draw=lambda: next(iter(self.draws), 0.0)
        )

    async def connected(self, **keys: Any) -> None:
        await self.candidate.listen()
        self.feed.activate(settings(**keys))
        self.feed.start()
        await until(lambda: bool(self.candidate.writers))
        await until(lambda: self.feed._line is not None)

    def take(self, name: str, message: bytes = b"m") -> bool:
        return self.feed.take(message, "d", "allow", record(name))

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        return {
            tuple(value for _, value in series.labels): values[0]
            for series, values in self.registry.read()
            if series.name == name
        }


@asynccontextmanager
async def make_scene(folder: Path) -> AsyncIterator[Scene]:
    scene = Scene(folder)
    try:
        yield scene
        await scene.feed.drain(0.0)
        assert (scene.log.held, scene.log.bytes) == (0, 0)  # all the room that was kept is given back
    finally:
        await scene.candidate.close()


async def test_live_and_candidate_stand_side_by_side(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected()
        assert scene.take("1", b"one")
        assert (scene.log, scene.log.held, scene.log.bytes) == ([], 1, 3)  # its record waits
        assert await scene.candidate.answer() == b"one"
        await until(lambda: bool(scene.log))
        assert scene.log[0].shadow == YES
        assert scene.log[0].revision == "rev1"
        assert scene.counted("mixer_shadow_checks_total") == {("d", "allow", "allow"): 1}


async def test_verdicts_may_come_in_any_order_and_in_pieces(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected()
        for name in "123":
            scene.take(name)
        checks = [await scene.candidate.checks.get() for _ in range(3)]
        outcomes = ["deny", "error", "allow"]
        frames = b"".join(
            encode_verdict(number, ShadowOutcome(verdict))
            for (number, _, _), verdict in zip(reversed(checks), outcomes, strict=True)
        )
        for start in range(0, len(frames), 7):
            scene.candidate.writers[0].write(frames[start : start + 7])
            await asyncio.sleep(0.001)
        await until(lambda: len(scene.log) == 3)
        assert scene.log.verdicts == [("3", "deny"), ("2", "error"), ("1", "allow")]


async def test_only_the_share_is_asked_by_one_draw_a_check(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected(share=0.25)
        scene.draws = iter([0.0, 0.25, 0.2499, 0.9])
        assert [scene.take(name) for name in "1234"] == [True, False, True, False]
        scene.feed.activate(settings(share=0.0))
        scene.draws = iter([0.0])
        assert not scene.take("5")


async def test_without_a_candidate_nobody_is_asked_and_without_its_process_checks_are_dropped(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        assert not scene.take("0")
        scene.feed.activate(settings())
        scene.feed.start()
        assert scene.take("1")
        assert scene.log.verdicts == [("1", "dropped")]
        assert scene.counted("mixer_shadow_dropped_total") == {("away",): 1}
        assert scene.counted("mixer_shadow_checks_total") == {("d", "allow", "dropped"): 1}


async def test_more_than_may_wait_are_dropped(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected(queue=2)
        for name in "123":
            assert scene.take(name)
        assert scene.log.verdicts == [("3", "dropped")]
        assert scene.counted("mixer_shadow_dropped_total") == {("full",): 1}


async def test_a_candidate_that_does_not_read_costs_a_bounded_memory(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        scene.candidate.reads = False
        await scene.connected(queue=100_000)
        big = b"x" * 100_000
        for number in range(400):
            scene.take(str(number), big)
        assert 2 <= len(scene.feed._waiting) <= 100  # what the socket and a mebibyte hold
        assert len(scene.log) == 400 - len(scene.feed._waiting)


async def test_a_verdict_that_comes_too_late_counts_for_nothing(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected(timeout="20ms")
        scene.take("1")
        await asyncio.sleep(0.005)
        scene.take("2")
        await until(lambda: len(scene.log) == 2)
        await scene.candidate.answer()
        scene.take("3")
        number, expires, _ = await scene.candidate.checks.get()
        assert number == 2
        assert expires < SystemClock().monotonic() + 1
        await until(lambda: len(scene.log) == 3)
        assert scene.log.verdicts == [(name, "timeout") for name in "123"]


async def test_when_its_process_ends_what_waits_is_an_error_and_the_next_one_is_asked(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected()
        scene.take("1")
        await scene.candidate.checks.get()
        scene.candidate.writers[0].transport.abort()
        await until(lambda: bool(scene.log))
        assert scene.log.verdicts == [("1", "error")]
        assert "ended before" in scene.log[0].shadow.reasons
        await until(lambda: scene.feed._line is not None)
        scene.take("2")
        await scene.candidate.answer()
        await until(lambda: len(scene.log) == 2)
        assert scene.log.verdicts[1] == ("2", "allow")


async def test_a_process_that_says_goodbye_answers_what_it_has_and_the_next_one_gets_the_rest(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected()
        scene.take("1")
        scene.candidate.writers[0].write(GOODBYE)
        await until(lambda: len(scene.candidate.writers) == 2)
        await until(lambda: scene.feed._line is not None)
        scene.take("2")
        await scene.candidate.answer(line=0)
        await scene.candidate.answer(line=1)
        await until(lambda: len(scene.log) == 2)
        assert sorted(scene.log.verdicts) == [("1", "allow"), ("2", "allow")]


@pytest.mark.parametrize(
    "garbage",
    [
        VERDICT.pack(1, 1 << 20),
        VERDICT.pack(1, 4) + b"null",
        VERDICT.pack(1, 2) + b"[]",
        VERDICT.pack(1, 3) + b"\xff{[",
    ],
)
async def test_garbage_ends_the_connection_and_loses_no_record(tmp_path: Path, garbage: bytes) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected()
        scene.take("1")
        scene.candidate.writers[0].write(garbage)
        await until(lambda: bool(scene.log))
        assert scene.log.verdicts == [("1", "error")]


async def test_draining_waits_for_what_is_on_its_way_and_hands_all_on(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected()
        scene.take("1")
        scene.take("2")
        draining = asyncio.create_task(scene.feed.drain(30))
        await asyncio.sleep(0.01)
        assert not scene.take("3")  # no more are asked
        assert not draining.done()
        await scene.candidate.answer()
        await scene.candidate.answer()
        await draining
        assert scene.log.verdicts == [("1", "allow"), ("2", "allow")]


async def test_draining_gives_up_in_time_and_hands_all_on(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected()
        scene.take("1")
        await scene.feed.drain(0.01)
        assert scene.log.verdicts == [("1", "timeout")]


async def test_a_candidate_that_is_taken_away_leaves_no_record_behind(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected()
        scene.take("1")
        scene.feed.activate(None)
        assert scene.log.verdicts == [("1", "dropped")]
        assert scene.counted("mixer_shadow_dropped_total") == {("removed",): 1}
        assert not scene.take("2")
        scene.feed.activate(settings())
        await until(lambda: scene.feed._line is not None)
        scene.take("3")
        await scene.candidate.answer(ShadowOutcome("deny"))  # of what it was asked before
        await scene.candidate.answer(ShadowOutcome("deny"))
        await until(lambda: len(scene.log) == 2)
        assert scene.log.verdicts[1] == ("3", "deny")


async def test_without_a_log_verdicts_are_counted(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        scene.feed._decisions = None
        await scene.connected()
        assert scene.feed.take(b"m", "d", "deny", None)
        await scene.candidate.answer()
        await until(lambda: bool(scene.counted("mixer_shadow_checks_total")))
        assert scene.counted("mixer_shadow_checks_total") == {("d", "deny", "allow"): 1}


@given(rule=st.text(), reasons=st.text(alphabet=st.characters(codec=None, exclude_categories=[]), max_size=50))
def test_what_a_policy_says_comes_through_or_is_replaced(rule: str, reasons: str) -> None:
    frame = encode_verdict(7, ShadowOutcome("deny", rule, reasons, "r"))
    number, length = VERDICT.unpack_from(frame)
    outcome = decode_verdict(frame[VERDICT.size :])
    assert (number, length) == (7, len(frame) - VERDICT.size)
    assert (outcome.verdict, outcome.revision) == ("deny", "r")
    assert outcome.rule == rule[:2000]
    assert len(outcome.reasons) == len(reasons)


def test_long_reasons_are_cut_and_unknown_verdicts_refused() -> None:
    frame = encode_verdict(1, ShadowOutcome("deny", "", "ü" * 1_000_000, "r"))
    assert len(frame) < 10_000
    with pytest.raises(InvalidRequestError, match="none of allow, deny, error"):
        decode_verdict(b'["maybe","","",""]')
    assert encode_check(1, 2.0, b"abc") == CHECK.pack(1, 2.0, 3) + b"abc"


async def test_a_check_that_comes_while_the_connection_ends_is_an_error_too(tmp_path: Path) -> None:
    async with make_scene(tmp_path) as scene:
        await scene.connected()
        line = scene.feed._line
        assert line is not None
        line.close()
        scene.take("1")
        await until(lambda: bool(scene.log))
        assert scene.log.verdicts == [("1", "error")]
