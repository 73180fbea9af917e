"""Fetch bundles and documents in the supervisor, and put them in force with the reload that a changed file causes.

Each source is looked at by a task of its own: at intervals with jitter, after failures with back-off. What arrives is
offered to a reload; what that refuses is set aside until something else changes, and the last good stays. Not for:
reading or verifying what was fetched, which is done where it is used, in a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from mixer_py.errors import ConfigurationError, Fault
from mixer_py.instruments import Clock, Registry
from mixer_py.policy.bundles.settings import FetchSettings
from mixer_py.policy.bundles.sources import Source, copies_folder, sources_of
from mixer_py.policy.settings import PolicySettings
from mixer_py.runtime import copies
from mixer_py.runtime.downloads import Arrival, Downloader, DownloadError

Build = Callable[[Mapping[str, Path]], Awaitable[None]]
"""Puts files of fetched content, by the keys of their sources, in force; raises ConfigurationError when it cannot."""

_FIRST_RETRY: Final = 0.5
_JITTER: Final = 0.1
_FIRST_LOOK_SECONDS: Final = 10.0
"""How long a reload waits for what it names for the first time."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a source is looked at.

    Attributes:
        fetch: the settings for all.
        allowed: hosts to which its server may redirect.
        limit: the most octets of it.
        least, most: seconds from one look to the next.
    """

    fetch: FetchSettings
    allowed: tuple[str, ...]
    limit: int
    least: float
    most: float


@dataclass(slots=True, eq=False)
class _Followed:
    """A source and what came from it.

    Attributes:
        active: the file in force.
        waiting: what came since.
        unproven: what is in force is a copy that nothing was built with yet.
        set_aside: a reload refused what waits.
        etag, digest: of the newest content, in force or waiting.
        looked: the first look is over, however it went.
        error: why the last look failed; empty after a good one.
        fetched_at: seconds since the epoch of the last good look; None before it.
    """

    source: Source
    plan: _Plan
    active: Path | None = None
    unproven: bool = False
    waiting: Arrival | None = None
    set_aside: bool = False
    etag: str = ""
    digest: str = ""
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    error: str = ""
    fetched_at: float | None = None
    task: asyncio.Task[None] | None = None


class Fetching:
    """Everything that one mixer fetches."""

    def __init__(self, folder: Path, registry: Registry, clock: Clock, arrived: Callable[[], None]) -> None:
        """Prepares; `start` begins.

        Args:
            folder: private folder for what arrives.
            registry: the supervisor's own.
            clock: for what people are shown.
            arrived: called when there is something to reload.
        """
        self._folder = folder
        self._clock = clock
        self._arrived = arrived
        self._counted = registry.counter(
            "mixer_fetches_total", "Looks at what is fetched.", ("source", "outcome"), max_label_sets=500
        )
        self._log = structlog.get_logger("runtime")
        self._followed: dict[str, _Followed] = {}
        self._in_force: list[_Followed] = []
        self._stale: list[Path] = []

    async def start(self, settings: PolicySettings, build: Build) -> None:
        """Begins to follow the sources of a configuration, and builds with the copies that are kept of them.

        Raises:
            ConfigurationError: what is not fetched is faulty.
        """
        self._in_force = self._follow(settings)
        kept = {one.source.key: one.active for one in self._in_force if one.active is not None}
        try:
            await build(kept)
        except ConfigurationError as error:
            if not kept:
                raise
            self._log.error(
                "the kept copies cannot be used",
                way_out="see that the sources can be fetched; runbook MixerFetchFails",
                faults=[str(fault) for fault in error.faults],
            )
            for one in self._in_force:
                if one.active is not None:
                    self._count(one, "refused")
                    one.active = None
                    one.etag = one.digest = ""
            await build({})
        for one in self._in_force:
            one.unproven = False

    async def reload(self, settings: PolicySettings, build: Build, *, again: bool) -> bool:
        """Builds with what arrived; what is refused is set aside, and is built without.

        Args:
            settings: of the configuration to build.
            build: puts it in force.
            again: something else has changed as well: build in any case, also with what was set aside.

        Returns:
            Whether anything was built.

        Raises:
            ConfigurationError: with every fault of what was refused.
        """
        wanted = self._follow(settings)
        await _first_looks(wanted)
        missing = [one for one in wanted if one.active is None and one.waiting is None]
        if missing and all(one.active for one in self._in_force):
            raise ConfigurationError([_never_came(one) for one in missing])
        fresh = {one: one.waiting for one in wanted if one.waiting is not None and (again or not one.set_aside)}
        if missing:  # nothing can be decided before the rest has come
            if again:
                await build(_files(wanted, {}))
                self._forget(wanted)
            return again
        attempt = _Attempt(wanted, build)
        accepted = await self._try(attempt, fresh, again=again)
        for one, arrival in fresh.items():
            if one.waiting is arrival and not one.set_aside:
                one.set_aside = True
                self._count(one, "refused")
        for one in wanted:
            if one.unproven and not accepted:  # the copy may be what is faulty: ask for it as if there were none
                one.etag = one.digest = ""
            one.unproven = False
        if accepted:
            self._forget(wanted)
        self._remove_stale()
        if attempt.faults:
            raise ConfigurationError(attempt.faults)
        return accepted

    async def _try(self, attempt: _Attempt, fresh: Mapping[_Followed, Arrival], *, again: bool) -> bool:
        """Tries all that is fresh together, then each alone, then nothing of it; whether anything was good."""
        if not fresh and not again:
            return False
        offers = [fresh]
        if len(fresh) > 1:
            offers += [{one: arrival} for one, arrival in fresh.items()]
        if fresh and again:
            offers.append({})
        accepted = False
        for offer in offers:
            if accepted and not offer:
                break
            if await attempt.succeeds(offer):
                accepted = True
                for one, arrival in offer.items():
                    await self._accept(one, arrival)
                if offer is fresh:
                    break
        return accepted

    async def stop(self) -> None:
        """Ends all looks."""
        tasks = [one.task for one in self._followed.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def describe(self) -> Sequence[Mapping[str, object]]:
        """Each source and how it fares, for `/config`."""
        return [
            {
                "source": one.source.name,
                "in_force": one.active is not None,
                "refused": one.set_aside,
                "etag": one.etag,
                "seconds_since_fetched": None if one.fetched_at is None else self._clock.wall() - one.fetched_at,
                "error": one.error or None,
            }
            for one in self._followed.values()
        ]

    def _follow(self, settings: PolicySettings) -> list[_Followed]:
        """Follows what settings name, by their terms from now on, beside what is in force."""
        folder = copies_folder(settings.fetch.folder, os.environ)
        wanted = []
        for source in dict.fromkeys(sources_of(settings.bundles, settings.data)):
            plan = _plan(source, settings)
            one = self._followed.get(source.key)
            if one is None:
                one = self._followed[source.key] = _Followed(source, plan)
                one.active = copies.find(folder, source)
                if one.active is not None:
                    one.unproven = True
                    one.etag, one.digest = copies.known(folder, source)
            elif one.plan == plan:
                wanted.append(one)
                continue
            if one.task is not None:
                one.task.cancel()
            one.plan = plan
            one.task = asyncio.create_task(self._look_for_ever(one))
            wanted.append(one)
        return list(dict.fromkeys(wanted))

    def _forget(self, wanted: Sequence[_Followed]) -> None:
        """Ends the looks at what the configuration in force does not name."""
        self._in_force = list(wanted)
        for key, one in list(self._followed.items()):
            if one not in wanted:
                if one.task is not None:
                    one.task.cancel()
                self._stale += [arrival.file for arrival in (one.waiting,) if arrival is not None]
                self._stale += [one.active] if one.active is not None else []
                del self._followed[key]

    async def _accept(self, one: _Followed, arrival: Arrival) -> None:
        """Takes what is in force now for the last good."""
        if one.active is not None:
            self._stale.append(one.active)
        one.active = arrival.file
        if one.waiting is arrival:
            one.waiting, one.set_aside = None, False
        folder = copies_folder(one.plan.fetch.folder, os.environ)
        try:
            await asyncio.to_thread(copies.keep, folder, one.source, arrival.file, arrival.etag)
        except OSError as error:
            self._count(one, "not_kept")
            self._log.error(
                "no copy could be kept",
                way_out="let this user write to the folder, or set policy.fetch.folder",
                source=one.source.name,
                folder=str(folder),
                error=str(error),
            )

    def _remove_stale(self) -> None:
        for file in self._stale:
            if file.parent == self._folder:  # not the copies, which are for the next start
                file.unlink(missing_ok=True)
        self._stale.clear()

    async def _look_for_ever(self, one: _Followed) -> None:
        plan = one.plan
        downloader = Downloader(plan.fetch, plan.allowed)
        retry = _FIRST_RETRY
        while True:
            good = await self._look(one, downloader)
            one.looked.set()
            if good:
                delay, retry = random.uniform(plan.least, plan.most), _FIRST_RETRY  # noqa: S311 (jitter, no secret)
            else:
                delay, retry = retry * random.uniform(1 - _JITTER, 1 + _JITTER), min(retry * 2, plan.most)  # noqa: S311
            await asyncio.sleep(delay)

    async def _look(self, one: _Followed, downloader: Downloader) -> bool:
        file = self._folder / f"fetched-{secrets.token_hex(8)}"
        try:
            arrival = await downloader.look(one.source, one.etag, one.plan.limit, file)
        except DownloadError as error:
            file.unlink(missing_ok=True)
            self._count(one, "failed")
            if one.error != str(error):
                self._log.error(
                    "cannot be fetched; it is tried again",
                    way_out="runbook MixerFetchFails",
                    source=one.source.name,
                    error=str(error),
                )
            one.error = str(error)
            return False
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        self._log.debug("looked at", source=one.source.name, changed=arrival is not None)
        if one.error:
            self._log.info("can be fetched again", source=one.source.name)
        one.error, one.fetched_at = "", self._clock.wall()
        if arrival is None or arrival.digest == one.digest:
            file.unlink(missing_ok=True)
            one.etag = one.etag if arrival is None else arrival.etag
            self._count(one, "unchanged")
            if one.waiting is not None and not one.set_aside:
                self._arrived()  # once more: a worker that was just being replaced may have kept it out
            return True
        if one.waiting is not None:
            self._stale.append(one.waiting.file)
        one.waiting, one.set_aside = arrival, False
        one.etag, one.digest = arrival.etag, arrival.digest
        self._count(one, "changed")
        self._arrived()
        return True

    def _count(self, one: _Followed, outcome: str) -> None:
        self._counted.labels(one.source.name, outcome).add()


class _Attempt:
    """Builds of one reload, one offer after another, and the faults that were found."""

    def __init__(self, wanted: Sequence[_Followed], build: Build) -> None:
        self._wanted = wanted
        self._build = build
        self._faults: dict[Fault, None] = {}

    @property
    def faults(self) -> Sequence[Fault]:
        """Every fault, once."""
        return list(self._faults)

    async def succeeds(self, offer: Mapping[_Followed, Arrival]) -> bool:
        """Whether a build with what is offered, and else with what is in force, is good."""
        files = _files(self._wanted, offer)
        if len(files) < len(self._wanted):
            return False  # what never was in force is needed as well
        try:
            await self._build(files)
        except ConfigurationError as error:
            self._faults |= dict.fromkeys(error.faults)
            return False
        return True


def _files(wanted: Sequence[_Followed], offer: Mapping[_Followed, Arrival]) -> dict[str, Path]:
    files = {one.source.key: one.active for one in wanted if one.active is not None}
    return files | {one.source.key: arrival.file for one, arrival in offer.items()}


def _plan(source: Source, settings: PolicySettings) -> _Plan:
    fetch = settings.fetch
    if source.kind == "bundle":
        return _Plan(fetch, (), settings.bundle_limits.archive, fetch.min_delay, fetch.max_delay)
    refresh = min(data.refresh for data in settings.data.values() if data.url == source.url)
    least, most = refresh * (1 - _JITTER), refresh
    return _Plan(fetch, settings.data_hosts, fetch.max_document, least, most)


def _never_came(one: _Followed) -> Fault:
    reason = one.error or "has not come yet"
    return Fault(f"{one.source.name} {reason}, and there is no copy of it", way_out="it is tried again and again")


async def _first_looks(wanted: Sequence[_Followed]) -> None:
    """Waits until what is new was looked at once, but not for long."""
    new = [one for one in wanted if one.active is None and one.waiting is None]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_LOOK_SECONDS):
            await asyncio.gather(*(one.looked.wait() for one in new))
