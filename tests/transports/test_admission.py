"""Which of the calls that come at once are let in, with a clock that only work moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mixer_py.calls import Call
from mixer_py.errors import DeadlinePassedError, OverloadedError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.transports import Admission

MOST = 3


class Crowd:
    """Calls that each take as long as they say."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.admission = Admission(MOST, self.clock, Registry())

    def worker(self, seconds: float) -> Callable[[bytes, Call], Awaitable[bytes]]:
        async def work(message: bytes, _call: Call) -> bytes:
            self.clock.advance(seconds)
            return message

        return work

    async def come(self, count: int, seconds: float, call: Call | None = None) -> list[object]:
        """What became of so many calls that are handed over in one turn."""
        calls = (self.admission.run(self.worker(seconds), b"%d" % number, call or Call()) for number in range(count))
        return list(await asyncio.gather(*calls, return_exceptions=True))


def kinds(answers: list[object]) -> list[str]:
    return ["answered" if isinstance(answer, bytes) else type(answer).__name__ for answer in answers]


async def test_of_those_that_come_at_once_all_above_the_bound_are_refused_before_any_is_worked_on() -> None:
    crowd = Crowd()
    assert kinds(await crowd.come(8, 0.005)) == ["answered"] * MOST + ["OverloadedError"] * 5


async def test_one_crowd_after_another_is_bounded() -> None:
    crowd = Crowd()
    for _ in range(3):
        assert kinds(await crowd.come(40, 0.0001)) == ["answered"] * MOST + ["OverloadedError"] * (40 - MOST)


async def test_a_call_whose_deadline_has_passed_is_not_worked_on() -> None:
    crowd = Crowd()
    late = Call(deadline=crowd.clock.monotonic())
    assert kinds(await crowd.come(1, 0.0, late)) == [DeadlinePassedError.__name__]


async def test_room_is_given_back_whatever_became_of_a_call() -> None:
    crowd = Crowd()

    async def fail(_message: bytes, _call: Call) -> bytes:
        raise ZeroDivisionError

    for _ in range(2):
        calls = (crowd.admission.run(fail, b"", Call()) for _ in range(MOST + 1))
        ends = {type(end) for end in await asyncio.gather(*calls, return_exceptions=True)}
        assert ends <= {ZeroDivisionError, OverloadedError}
    assert crowd.admission.in_flight == 0
