"""The demo from its first to its last line: start, send, ask, and then stay or end."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import Sequence

from rich.markup import escape

from mixer_py.demo import evidence, parts, traffic
from mixer_py.demo.parts import Parts
from mixer_py.demo.screen import Screen, introduce
from mixer_py.demo.traffic import Exchange, Step
from mixer_py.errors import MixerError, NotRunningError

_MAX_ATTEMPTS = 30
"""Requests to reach a limit of 5 a minute, should a minute end in between."""
_ROWS_SECONDS = 45.0
_PAUSE_SECONDS = 0.15
"""Between requests, so that a person can follow."""
_LIGHT_PAUSE_SECONDS = 2.0
_STORY_METRICS = ("istio_requests_total", "mixer_checks_total", "mixer_rate_limits_total")


class MissingRowError(MixerError):
    """The demo ran, but did not show every kind of row."""


def run(once: bool) -> int:  # noqa: FBT001 (the command line's one switch)
    """Runs the demo on this terminal.

    Args:
        once: end by itself, rather than stay until Ctrl-C.

    Returns:
        0 when every kind of row was found, 1 when not, when a part did not start, or when it was interrupted before.
    """
    screen = Screen()
    absent = parts.missing()
    if absent:
        screen.say(escape(absent))
        return 1
    return asyncio.run(_until_signal(screen, once=once))


async def _until_signal(screen: Screen, *, once: bool) -> int:
    """The story, cancelled by the first SIGINT or SIGTERM; later ones cannot disturb the tidying up."""
    story = asyncio.ensure_future(_story(screen, once=once))
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: None)
        story.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        return await story
    except asyncio.CancelledError:
        screen.say("\nInterrupted; nothing is left running.")
        return 1


async def _story(screen: Screen, *, once: bool) -> int:
    async with Parts() as running:
        try:
            await _start(screen, running)
            exchanges = await _traffic(screen, running)
            await _evidence(screen, running, exchanges)
        except (MixerError, OSError) as error:
            screen.say(f"\n[red]✗[/] {escape(str(error))}")
            if words := running.last_words():
                screen.say(f"[dim]{escape(words)}[/]")
            return 1
        if once:
            screen.say("\n[green]✓[/] All five kinds of rows were found. Stopping everything.")
        else:
            await _stay(screen, running)
    if not once:
        screen.say("\nStopped; nothing is left running.")
    return 0


async def _start(screen: Screen, running: Parts) -> None:
    screen.heading("mixer-py: policy, limits and telemetry for Envoy, all on this machine")
    with screen.waiting(
        "starting two small HTTP services", "two HTTP services, reviews and ratings, know nothing of it"
    ):
        await running.start_services()
    with screen.waiting(
        "starting mixer, with ClickHouse inside (chDB)",
        f"mixer decides, counts and records: gRPC on 127.0.0.1:{running.grpc}, admin on 127.0.0.1:{running.admin}",
    ):
        await running.start_mixer()
    with screen.waiting(
        "starting Envoy",
        f"Envoy stands in front of them on 127.0.0.1:{running.http}, and asks mixer before each request",
    ):
        await running.start_envoy()


async def _traffic(screen: Screen, running: Parts) -> list[Exchange]:
    screen.heading("Three callers send requests through Envoy")
    screen.say(introduce() + "\n")
    with screen.traffic():
        exchanges = [await _send(screen, running, step) for step in traffic.ROUND]
        for _ in range(_MAX_ATTEMPTS):
            exchanges.append(await _send(screen, running, traffic.BEYOND_LIMIT))
            if exchanges[-1].status == 429:
                break
    return exchanges


async def _send(screen: Screen, running: Parts, step: Step) -> Exchange:
    running.check_running()
    exchange = await traffic.send(running.http, step)
    screen.show(exchange)
    await asyncio.sleep(_PAUSE_SECONDS)
    return exchange


async def _evidence(screen: Screen, running: Parts, exchanges: Sequence[Exchange]) -> None:
    screen.heading("One row a request in ClickHouse: verdict, limit and outcome together")
    with screen.waiting(
        "asking with `mixer query` until every row has come",
        f"`mixer query` found a row of each of {len(evidence.KINDS)} kinds",
    ):
        found = await _find_rows(running, exchanges)
    screen.rows(found)
    screen.say(f"\n  [dim]as one row, {escape(evidence.KINDS[-1].name)}:[/]")
    screen.whole_row(found[evidence.KINDS[-1].name])
    screen.heading("The same in Prometheus: Istio's metrics, and mixer's own")
    screen.metrics(await evidence.metrics(running.admin, _STORY_METRICS))


async def _find_rows(running: Parts, exchanges: Sequence[Exchange]) -> dict[str, evidence.Row]:
    """The row of each kind.

    Raises:
        MissingRowError: not all were there in time; names those that were not.
    """
    sql = evidence.statement([exchange.request_id for exchange in exchanges if exchange.request_id])
    end = time.monotonic() + _ROWS_SECONDS
    found: dict[str, evidence.Row] = {}
    problem = ""
    while time.monotonic() < end:
        running.check_running()
        try:
            rows = await evidence.query(running.configuration, sql)
        except NotRunningError as error:
            problem = f"\nthe last query failed: {error}"
        else:
            problem = ""
            found = evidence.sort_out(rows)
            if len(found) == len(evidence.KINDS):
                return found
        await asyncio.sleep(_PAUSE_SECONDS)
    absent = [kind.name for kind in evidence.KINDS if kind.name not in found]
    raise MissingRowError(f"no row was found for: {', '.join(absent)}{problem}")


async def _stay(screen: Screen, running: Parts) -> None:
    """Keeps light traffic going until cancelled, which ends it without an error."""
    screen.heading("Try it (Ctrl-C ends everything)")
    screen.invitation(running, (*traffic.ROUND, traffic.BEYOND_LIMIT))
    screen.heading("Meanwhile a request now and then")
    try:
        with screen.traffic():
            for step in itertools.cycle((*traffic.ROUND, traffic.BEYOND_LIMIT)):
                await asyncio.sleep(_LIGHT_PAUSE_SECONDS)
                running.check_running()
                screen.show(await traffic.send(running.http, step))
    except asyncio.CancelledError:
        return
