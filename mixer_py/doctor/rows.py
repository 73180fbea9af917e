"""Whether rows can be written: the ClickHouse, its tables, and the disk behind a folder of ours."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mixer_py.config import Configuration
from mixer_py.doctor.clock import compare_clock
from mixer_py.doctor.finding import Finding, about, fault, good, skipped, warning
from mixer_py.errors import NotRunningError, QueryFailedError
from mixer_py.queries.reader import open_reader
from mixer_py.telemetry.settings import ClickHouseSettings, EmbeddedTarget, ServerTarget, SpoolSettings

_URL: Final = "telemetry.clickhouse.url"
_ROOM: Final = 2 << 30
"""Bytes below which a disk with chDB's folder is worth a warning: a large merge needs about as much."""
_SPOOLED_TABLES: Final = 3


async def examine_rows(configuration: Configuration) -> AsyncIterator[Finding]:
    """Looks at `telemetry.clickhouse` and `telemetry.spool`."""
    telemetry = configuration.telemetry
    if telemetry.clickhouse is None:
        yield skipped("ClickHouse", "none is configured")  # `mixer validate` has warned of it
    elif isinstance(telemetry.clickhouse.target, EmbeddedTarget):
        for finding in _embedded(telemetry.clickhouse.target):
            yield finding
    else:
        async for finding in _server(telemetry.clickhouse, telemetry.clickhouse.target):
            yield finding
    if telemetry.spool is not None:
        for finding in _spool(telemetry.spool, configuration.server.workers):
            yield finding


def _embedded(target: EmbeddedTarget) -> Iterator[Finding]:
    subject = f"chDB in {target.directory}"
    if find_spec("chdb") is None:
        yield fault(subject, "chDB is not installed", "pip install 'mixer-py[embedded]', or name a server", _URL)
    yield from _folder(subject, target.directory, _ROOM, _URL)


async def _server(settings: ClickHouseSettings, target: ServerTarget) -> AsyncIterator[Finding]:
    subject = f"ClickHouse {target.host}:{target.port}"
    reader = open_reader(settings, None)
    try:
        (answer,) = (await reader.query("SELECT version() AS version, toUnixTimestamp(now()) AS now")).splitlines()
    except (NotRunningError, QueryFailedError) as error:
        yield fault(subject, str(error), "start it, or mend the address, the user or the password", _URL)
        return
    told = json.loads(answer)
    yield good(subject, f"answers; version {told['version']}", _URL)
    # It tells whole seconds, so it is half a second behind on average.
    yield compare_clock(subject, int(told["now"]) + 0.5 - time.time())
    try:
        await reader.query("SELECT 1 FROM requests LIMIT 0")
    except QueryFailedError as error:
        message = f"the table {target.database}.requests cannot be read: {error}"
        yield warning(subject, message, "mixer makes it at its first start, with a user that may CREATE", _URL)
    else:
        yield good(f"database {target.database}", "has mixer's tables")


def _spool(settings: SpoolSettings, workers: int) -> Iterator[Finding]:
    wanted = settings.bytes * _SPOOLED_TABLES * workers
    yield from _folder(f"spool in {settings.directory}", Path(settings.directory), wanted, "telemetry.spool.directory")


def _folder(subject: str, folder: Path, wanted: int, key: str) -> Iterator[Finding]:
    """Whether a folder is there, or can be made, and whether its disk has room."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    if not there.is_dir():
        yield fault(subject, f"{there} is no folder", "name another", key)
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield fault(subject, f"this user may not write to {there}", "chown it to the user that mixer runs as", key)
        return
    disk = os.statvfs(there)
    free = disk.f_bavail * disk.f_frsize
    if disk.f_flag & os.ST_RDONLY:
        yield fault(subject, f"the file system of {there} is read-only", "mount it for writing, or name another", key)
    elif free < wanted:
        message = f"{about(free)} are free, and {about(wanted)} may be needed"
        yield warning(subject, message, "make room, or lower the bound", key)
    else:
        yield good(subject, f"can be written to; {about(free)} are free", key)
