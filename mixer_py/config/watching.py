"""Notice when a file that the configuration names has changed, however it was changed.

Kubernetes swaps a symlink beside the file, editors rename a new file over it, and a folder may be replaced as a
whole. So an event only says when to look: what changed is told by comparing what is there with what was there.
Not for: loading anything, or deciding whether a change is good.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch

from mixer_py.config.configuration import Configuration
from mixer_py.config.loading import find_file
from mixer_py.config.secrets import secrets_of

Stamp = tuple[tuple[str, int, int, int, int], ...]
"""What a path leads to: for it, or for each file below it, its name, device, inode, size and time of change."""

_SETTLED_AFTER = 20  # looks; a file that changes for longer than that is reported while it changes


def watched_paths(configuration: Configuration, file: Path | None) -> tuple[Path, ...]:
    """What a running mixer reads from this machine: its configuration file, policies, limits and files of secrets."""
    secret_files = [secret.file for _, secret in secrets_of(configuration) if secret.file is not None]
    named = [*configuration.policy.bundles, *configuration.rate_limit.config, *secret_files]
    paths = [Path(text).absolute() for text in named if "://" not in text]
    return tuple(dict.fromkeys(([file.absolute()] if file is not None else []) + paths))


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


async def watch(
    paths: Callable[[], Iterable[Path]],
    *,
    settle: float = 0.2,
    poll: float = 2.0,
) -> AsyncIterator[frozenset[Path]]:
    """Yields the paths that changed, once they have settled, until it is closed.

    Args:
        paths: the paths to watch, asked again after each change; one that does not exist yet is waited for.
        settle: seconds without further change before a change is told, so that half-written files are not.
        poll: seconds after which it looks even when the system reported nothing, as on file systems without events.
    """
    known = await asyncio.to_thread(_stamps, tuple(paths()))
    while True:
        watched = tuple(paths())
        async for now in _looks(watched, poll):
            changed = _difference(known, now)
            if changed:
                now = await _settled(watched, now, settle)  # noqa: PLW2901 (the look that counts)
                changed |= _difference(known, now)
            known = {**now, **{path: stamp for path, stamp in known.items() if path not in now}}
            if changed:
                yield frozenset(changed)
                if tuple(paths()) != watched:
                    break


async def _looks(watched: tuple[Path, ...], poll: float) -> AsyncIterator[dict[Path, Stamp]]:
    """What is there, at first, at each event and after each `poll`; events are asked for anew when folders come."""
    while True:
        folders = await asyncio.to_thread(_folders, watched)
        yield await asyncio.to_thread(_stamps, watched)
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
                yield await asyncio.to_thread(_stamps, watched)
                if await asyncio.to_thread(_folders, watched) != folders:
                    break


async def _settled(watched: tuple[Path, ...], now: dict[Path, Stamp], settle: float) -> dict[Path, Stamp]:
    for _ in range(_SETTLED_AFTER):
        await asyncio.sleep(settle)
        later = await asyncio.to_thread(_stamps, watched)
        if later == now:
            break
        now = later
    return now


def _difference(before: dict[Path, Stamp], now: dict[Path, Stamp]) -> set[Path]:
    return {path for path, stamp in now.items() if before.get(path, stamp) != stamp}


def _stamps(paths: tuple[Path, ...]) -> dict[Path, Stamp]:
    return {path: tuple(_stamp(path)) for path in paths}


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
