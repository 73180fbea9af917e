"""Notice when a file that the configuration names has changed, however it was changed.

Kubernetes swaps a symlink beside the file, editors rename a new file over it, and a folder may be replaced as a
whole. So an event only says when to look: what changed is told by comparing what is there with what was there.
Not for: loading anything, or deciding whether a change is good.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from watchfiles import awatch

from mixer_py.config.configuration import Configuration
from mixer_py.config.loading import find_file
from mixer_py.config.secrets import secrets_of

Stamp = tuple[tuple[str, int, int, int, int], ...]
"""What a path leads to: for it, or for each file below it, its name, device, inode, size and time of change."""

_TICK = 0.1  # seconds by which a file's time may lag behind the clock
_SETTLED_AFTER = 20  # looks; a file that changes for longer than that is reported while it changes


def watched_paths(configuration: Configuration, file: Path | None) -> tuple[Path, ...]:
    """What a running mixer reads from this machine: its own file, policies, limits, files of secrets and of TLS."""
    secret_files = [secret.file for _, secret in secrets_of(configuration) if secret.file is not None]
    descriptor, shadow = configuration.policy.proto_descriptor, configuration.policy.shadow
    named = [*configuration.policy.bundles, *configuration.rate_limit.config, *secret_files]
    named += [] if descriptor is None else [descriptor]
    named += [] if shadow is None else shadow.bundles
    named += configuration.server.tls_files
    return tuple(dict.fromkeys([*([file.absolute()] if file is not None else []), *local_paths(named)]))


def local_paths(named: Iterable[str]) -> tuple[Path, ...]:
    """Those of them that are on this machine, as `watch` reports them."""
    return tuple(Path(text).absolute() for text in named if "://" not in text)


def changes(
    file: Path | None, configuration: Callable[[], Configuration], *, settle: float = 0.2, poll: float = 2.0
) -> AsyncIterator[frozenset[Path]]:
    """Yields what changed of all that a running mixer reads, until it is closed.

    Args:
        file: the configuration file as `load` was given it.
        configuration: the one in use, asked again after each change because it names the other files.
        settle: see `watch`.
        poll: see `watch`.
    """
    return watch(lambda: watched_paths(configuration(), find_file(file)), settle=settle, poll=poll)


def watch(
    paths: Callable[[], Iterable[Path]],
    *,
    settle: float = 0.2,
    poll: float = 2.0,
) -> AsyncIterator[frozenset[Path]]:
    """Yields the paths that changed since this call, once they have settled, until it is closed.

    Args:
        paths: the paths to watch, asked again at each look; one that does not exist yet is waited for.
        settle: seconds without further change before a change is told, so that half-written files are not.
        poll: seconds after which it looks even when the system reported nothing, as on file systems without events.
    """
    now = _look(tuple(paths()))
    return _tell(paths, now, settle, poll)


@dataclass(frozen=True, slots=True)
class _Look:
    """What was there, and when the look began: wall clock in seconds, because that is what files carry."""

    stamps: Mapping[Path, Stamp]
    began: float


async def _tell(
    paths: Callable[[], Iterable[Path]], before: _Look, settle: float, poll: float
) -> AsyncIterator[frozenset[Path]]:
    known = dict(before.stamps)
    while True:
        watched = tuple(paths())
        async with aclosing(_looks(watched, poll)) as looks:
            async for look in looks:
                changed = _difference(known, look.stamps)
                # A new path was read by whoever named it, at the earliest after the look before this one.
                changed |= {path for path in look.stamps if path not in known and _changed_since(path, before.began)}
                now = await _settled(watched, look, settle) if changed else look
                changed |= _difference(known, now.stamps)
                known |= now.stamps
                before = now
                if changed:
                    yield frozenset(changed)
                if tuple(paths()) != watched:
                    break


async def _looks(watched: tuple[Path, ...], poll: float) -> AsyncGenerator[_Look, None]:
    """What is there, at first, at each event and after each `poll`; events are asked for anew when folders come."""
    while True:
        folders = await asyncio.to_thread(_folders, watched)
        yield await asyncio.to_thread(_look, watched)
        try:
            events = awatch(
                *folders,
                recursive=False,
                watch_filter=None,
                debounce=50,
                step=20,
                rust_timeout=int(poll * 1000),
                yield_on_timeout=True,
            )
            async with aclosing(events):
                async for _ in events:
                    yield await asyncio.to_thread(_look, watched)
                    if await asyncio.to_thread(_folders, watched) != folders:
                        break
        except OSError:  # a folder went away just now, or the system has no more watches to give
            await asyncio.sleep(poll)


async def _settled(watched: tuple[Path, ...], look: _Look, settle: float) -> _Look:
    for _ in range(_SETTLED_AFTER):
        await asyncio.sleep(settle)
        later = await asyncio.to_thread(_look, watched)
        if later.stamps == look.stamps:
            break
        look = later
    return look


def _difference(before: Mapping[Path, Stamp], now: Mapping[Path, Stamp]) -> set[Path]:
    return {path for path, stamp in now.items() if before.get(path, stamp) != stamp}


def _changed_since(path: Path, moment: float) -> bool:
    """Whether something there was written, or moved there, after that moment."""
    for file in (path, *_below(path)):
        with contextlib.suppress(OSError):
            if file.stat().st_ctime > moment - _TICK:
                return True
    return False


def _look(paths: tuple[Path, ...]) -> _Look:
    began = time.time()
    return _Look({path: tuple(_stamp(path)) for path in paths}, began)


def _stamp(path: Path) -> Iterator[tuple[str, int, int, int, int]]:
    for file in (path, *_below(path)):
        try:
            found = file.stat()
        except OSError:
            continue  # it is being replaced: what is there next will differ
        size = 0 if file.is_dir() else found.st_size
        yield str(file), found.st_dev, found.st_ino, size, 0 if file.is_dir() else found.st_mtime_ns


def _below(path: Path) -> Iterator[Path]:
    """Files and folders below a folder in a fixed order; links to folders are not followed, but for `path` itself."""
    if path.is_dir():
        for folder, names, files in os.walk(path):
            names.sort()
            yield from (Path(folder, name) for name in sorted((*names, *files)))


def _folders(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders in which an event may mean a change: around the path, around what it links to, and below it.

    Where something does not exist, the nearest folder above it that does.
    """
    folders: set[Path] = set()
    for path in paths:
        for place in (path, *_links(path)):
            folders.add(_nearest(place.parent))
        if path.is_dir():
            folders.add(path.resolve())
            folders.update(below.resolve() for below in _below(path) if below.is_dir() and not below.is_symlink())
    return tuple(sorted(folders))


def _links(path: Path) -> Iterator[Path]:
    """Each link on the way from `path` to what it means, and what it means at last."""
    for part in (path, *path.parents):
        if part.is_symlink():
            yield part
            yield Path(part.parent, part.readlink())
    yield path.resolve()


def _nearest(folder: Path) -> Path:
    while not folder.is_dir():
        folder = folder.parent
    return folder
