"""chDB over one folder: rows in, verified before they count; SELECTs out, within limits.

chDB reports success for writes that failed (ENOSPC, EIO, EFBIG), inserts and merges alike. So each part that an insert
made is checked before the insert is acknowledged, merged parts are checked soon after, and their sources stay on disk
long enough to come back: a part whose files are too short is set aside when the folder is opened again, and what was
merged into it is then used instead.

Blocking: every method is called in a thread. `write` in one at a time, `inspect` in one at a time, `query` in several.
Not for: sockets and processes (`runtime/store.py`), or which SQL a reader may run (`queries/`): no setting of chDB
stops INTO OUTFILE or the function `file`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from mixer_py.errors import ConfigurationError, Fault, MigrationError, QueryFailedError, SinkError
from mixer_py.telemetry import validation
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.empty_columns import without_empty
from mixer_py.telemetry.layout import Layout
from mixer_py.telemetry.rollups import ROLLUPS
from mixer_py.telemetry.store.connection import Connection, Row, is_locked, read_rows, tidy
from mixer_py.telemetry.store.definitions import Definitions
from mixer_py.telemetry.store.protocol import QueryLimits

FOR_EVER: Final[Mapping[str, int]] = MappingProxyType({})
"""No table's rows are ever deleted."""
KEEP_FREE: Final = 256 << 20
"""Bytes of the disk that are never used: at its edge chDB loses what it writes."""
MEMORY: Final = 1536 << 20
"""Bytes that chDB may use for everything together."""

_ROOM_FACTOR: Final = 4
"""Free bytes wanted for a byte of a batch: its part, and merges that copy it."""
_HOLDING: Final = (*TABLES, *(rollup.name for rollup in ROLLUPS))
"""Tables that hold rows, or sums of them."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_ATTEMPTS: Final = 5
"""How often parts are listed anew because a merge took one away in between."""


class StoreEngine:
    """The database of one folder, open."""

    def __init__(self, directory: Path, database: str, *, memory: int = MEMORY, keep_free: int = KEEP_FREE) -> None:
        """Prepares; `open` opens.

        Args:
            directory: the folder; made when it is missing.
            database: name of the database; made when it is missing.
            memory: bytes that chDB may use.
            keep_free: bytes of the disk below which nothing is inserted.
        """
        self._directory = directory.absolute()
        self._database = database
        self._definitions = Definitions(self._directory, database)
        self._memory = memory
        self._keep_free = keep_free
        # Named here and not by a context variable: those are the event loop's, and the engine runs in threads.
        self._log = structlog.get_logger("store", process="store", directory=str(directory))
        self._verified: set[str] = set()
        self._found: frozenset[str] = frozenset()
        self._last_block: dict[str, int] = {}
        self.broken = ""
        """Why nothing is inserted any more and the process must be replaced; empty while all is well."""

    def open(self, retention: Mapping[str, int] = FOR_EVER) -> None:
        """Opens the folder and makes what is missing in it.

        Args:
            retention: seconds that rows are kept, as `Layout.retention` has them.

        Raises:
            ConfigurationError: chDB is not installed; the folder cannot be used, is in use, or is of another version.
        """
        try:
            import chdb  # noqa: PLC0415 (an optional part, and half a second)
        except ImportError as error:
            raise _refusal(f"chDB cannot be imported: {error}", "pip install 'mixer-py[embedded]'") from error
        if "?" in str(self._directory):
            raise _refusal(f"chDB cannot use the folder {self._directory}", "choose a path without a question mark")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _refusal(f"the folder cannot be made: {error}", "choose one that this user may write") from error
        connect: Callable[[str], Connection] = chdb.connect
        self._connect = partial(connect, f"{self._directory}?max_server_memory_usage={self._memory}")
        try:
            self._definitions.put_back()
            self._writer = self._connect()
        except MigrationError as error:
            raise _refusal(str(error), "make room, or look after the disk") from error
        except (RuntimeError, ValueError) as error:
            raise self._cannot_open(str(error)) from error
        self._inspector = self._connect()
        try:
            self._prepare(Layout(self._database, retention))
        except BaseException as error:
            self.close()
            with contextlib.suppress(MigrationError):  # the next who opens it tries again
                self._definitions.put_back()
            if isinstance(error, (RuntimeError, ValueError)):
                raise self._cannot_open(str(error)) from error
            raise

    def write(self, table: str, batch: pa.RecordBatch, token: str) -> int:
        """Inserts rows and verifies what the disk holds of them.

        Args:
            table: `requests` or `decisions`.
            batch: exactly the table's columns.
            token: names the batch; one that is there already is not stored again.

        Returns:
            Rows that were stored: all of them, or 0 when they were there already.

        Raises:
            SinkError: they do not count as written. After `unverified` this process inserts no more.
        """
        if self.broken:
            raise SinkError(self.broken, "unverified")
        if _TOKEN.fullmatch(token) is None:
            raise SinkError(f"{token!r} cannot be a token: up to 128 letters, digits and . _ : -")
        validation.check(table, batch)
        if not batch.num_rows:
            return 0
        self._check_room(batch.nbytes)
        attempt, name = 0, token
        while True:
            self._insert(table, batch, name)
            parts = self._new_parts(table)
            for rollup in ROLLUPS:
                if rollup.source.name == table and (sums := self._new_parts(rollup.name)):
                    self._verify(rollup.name, sums)
            if parts:
                self._verify(table, parts, batch.num_rows)
                return int(batch.num_rows)
            if self._is_there(table, batch):
                return 0
            # The token is remembered, but its part was found broken and set aside: a name that nobody used yet.
            attempt += 1
            name = f"{token}~{attempt}"
            self._log.warning(
                "a batch that was set aside as broken is written again",
                way_out="nothing to do; watch the disk, which broke it",
                table=table,
                token=token,
            )

    def query(self, sql: str, limits: QueryLimits) -> bytes:
        """Runs one SELECT, with unqualified tables those of the database.

        Each query has a connection of its own, which is read-only and whose limits no SETTINGS can change.

        Returns:
            One JSON object a line.

        Raises:
            QueryFailedError: the database refused it, or a limit ended it.
        """
        try:
            connection = self._connect()
        except RuntimeError as error:
            raise QueryFailedError(tidy(str(error))) from error
        try:
            connection.query(f"USE {self._database}")
            connection.query(
                f"SET max_execution_time = {limits.seconds}, max_result_rows = {limits.rows}, "
                f"max_result_bytes = {limits.result_bytes}, max_memory_usage = {limits.memory}, "
                "result_overflow_mode = 'throw', timeout_overflow_mode = 'throw', "
                "output_format_json_quote_64bit_integers = 0"
            )
            connection.query("SET readonly = 1")
            answer: bytes = connection.query(sql, "JSONEachRow").bytes()
        except RuntimeError as error:
            raise QueryFailedError(tidy(str(error))) from error
        finally:
            connection.close()
        return answer

    def inspect(self) -> None:
        """Checks the parts that no check has seen: those of merges, and those found when the folder was opened.

        One that this process wrote makes the store broken: opening the folder anew brings the sources back. One that
        was there before is set aside, and its rows with it.

        Raises:
            SinkError: the store is broken.
        """
        for table in _HOLDING:
            active = {part["name"] for part in self._parts(self._inspector, table)}
            keys = {f"{table}/{name}" for name in active}
            for key in sorted(keys - self._verified):
                self._inspect_part(table, key)
            self._verified -= {key for key in self._verified if key.startswith(f"{table}/") and key not in keys}

    def cancel_queries(self) -> None:
        """Ends the queries that run; each fails in its own thread."""
        connection = self._connect()
        try:
            connection.query("KILL QUERY WHERE Settings['readonly'] = '1' ASYNC")
        finally:
            connection.close()

    def close(self) -> None:
        """Lets go of the folder."""
        self._inspector.close()
        self._writer.close()

    def _inspect_part(self, table: str, key: str) -> None:
        name = key.partition("/")[2]
        fault = self._check_part(self._inspector, table, name)
        if fault is None:  # merged away meanwhile
            return
        if not fault:
            self._verified.add(key)
        elif key in self._found:
            self._log.error(
                "a part is damaged and set aside, its rows with it",
                way_out="replace the disk; what else it damages is lost. Runbook MixerStoreErrors",
                table=table,
                part=name,
                fault=fault,
            )
            self._inspector.query(f"ALTER TABLE {self._database}.{table} DETACH PART '{name}'")
        else:
            self._break(f"part {name} of {table} is not on disk as it was written: {fault}")

    def _cannot_open(self, message: str) -> ConfigurationError:
        if is_locked(self._directory / "status"):  # chDB says so on stderr only
            return _refusal(
                f"the folder {self._directory} is in use by another process",
                "stop the other mixer, or give this one a folder of its own",
            )
        return _refusal(f"chDB cannot open {self._directory}: {tidy(message)}", "see what chDB wrote on stderr")

    def _prepare(self, layout: Layout) -> None:
        try:
            changes = self._definitions.bring_up(self._writer, layout, _HOLDING)
        except MigrationError as error:
            raise _refusal(f"{error} (in {self._directory})", "or move the folder away") from error
        for change in changes:
            self._log.info("a table was changed", statement=change)
        self._note_what_is_there()

    def _note_what_is_there(self) -> None:
        found = set()
        for table in _HOLDING:
            parts = self._parts(self._writer, table)
            found |= {f"{table}/{part['name']}" for part in parts}
            self._last_block[table] = max((part["last_block"] for part in parts), default=0)
        self._found = frozenset(found)
        for row in read_rows(
            self._writer,
            f"SELECT table, name FROM system.detached_parts WHERE database = '{self._database}' "  # noqa: S608 (ours)
            "AND reason = 'broken-on-start'",
        ):
            self._log.error(
                "chDB set a damaged part aside; its rows are missing unless they were written again",
                way_out="replace the disk; runbook MixerStoreErrors",
                **row,
            )

    def _check_room(self, size: int) -> None:
        disk = os.statvfs(self._directory)
        free, wanted = disk.f_bavail * disk.f_frsize, self._keep_free + _ROOM_FACTOR * size
        if free < wanted:
            raise SinkError(f"{self._directory} has {free} bytes left; {wanted} are wanted for a batch", "disk_full")

    def _insert(self, table: str, batch: pa.RecordBatch, token: str) -> None:
        filled = without_empty(table, batch)
        columns = ", ".join(filled.schema.names)
        rows = pa.Table.from_batches([filled])  # noqa: F841 (chDB reads it by its name from this very frame)
        try:
            self._writer.query(
                f"INSERT INTO {self._database}.{table} ({columns}) "  # noqa: S608 (names of ours, and a checked token)
                f"SETTINGS insert_deduplication_token = '{token}', max_insert_threads = 1, "
                "deduplicate_blocks_in_dependent_materialized_views = 1, "
                "min_insert_block_size_rows = 1073741824, min_insert_block_size_bytes = 0 "  # one block: one part
                f"SELECT {columns} FROM Python(rows)"
            )
        except RuntimeError as error:
            raise SinkError(f"chDB refused a batch for {table}: {tidy(str(error))}", "insert_failed") from error

    def _new_parts(self, table: str) -> list[Row]:
        last = self._last_block[table]
        return [part for part in self._parts(self._writer, table) if part["last_block"] > last]

    def _verify(self, table: str, parts: list[Row], rows: int | None = None) -> None:
        """Checks the parts that hold the rows just inserted; a merge may have taken them in already.

        Args:
            table: its name.
            parts: those that are new.
            rows: how many were inserted; None where they are summed up.

        Raises:
            SinkError: they are not on disk as they were written.
        """
        last = self._last_block[table]
        for _ in range(_ATTEMPTS):
            faults = [self._check_part(self._writer, table, part["name"]) for part in parts]
            if None not in faults:
                break
            parts = self._new_parts(table)
        else:
            self._break(f"parts of {table} change faster than they can be checked")
        for part, fault in zip(parts, faults, strict=True):
            fresh = part["first_block"] > last
            if not fault and fresh and rows is not None and part["rows"] != rows:
                fault = f"it holds {part['rows']} rows of {rows}"  # noqa: PLW2901 (one of its faults)
            if fault:
                if fresh:  # without it the token is forgotten too, and no merge can take it in
                    self._drop(table, part["name"])
                self._break(f"part {part['name']} of {table} is not on disk as it was written: {fault}")
        if not parts:
            self._break(f"no part of {table} holds the batch that was just inserted")
        self._verified |= {f"{table}/{part['name']}" for part in parts}
        self._last_block[table] = max(part["last_block"] for part in parts)

    def _drop(self, table: str, part: str) -> None:
        try:
            self._writer.query(f"ALTER TABLE {self._database}.{table} DETACH PART '{part}'")
            self._writer.query(
                f"ALTER TABLE {self._database}.{table} DROP DETACHED PART '{part}' SETTINGS allow_drop_detached = 1"
            )
        except RuntimeError as error:  # it is found, and set aside, when the folder is opened again
            self._log.error(
                "a damaged part stays where it is",
                way_out="stop mixer and remove the part by hand; runbook MixerStoreErrors",
                table=table,
                part=part,
                error=tidy(str(error)),
            )

    def _break(self, why: str) -> None:
        self.broken = why
        self._log.critical(
            "the disk does not hold what was written; nothing is inserted any more",
            way_out="make room or replace the disk; the store is started anew. Runbook MixerRowsNotWritten",
            fault=why,
        )
        try:
            self._inspector.query("SYSTEM STOP MERGES")
        except RuntimeError as error:
            self._log.error(
                "merges cannot be stopped", way_out="stop mixer; runbook MixerStoreErrors", error=tidy(str(error))
            )
        raise SinkError(why, "unverified")

    def _is_there(self, table: str, batch: pa.RecordBatch) -> bool:
        """Whether the table holds rows of the batch."""
        keys = ", ".join(("timestamp", *TABLES[table].indexed))
        span = pc.min_max(batch["timestamp"].cast(pa.int64())).as_py()
        rows = pa.Table.from_batches([batch.select(["timestamp", *TABLES[table].indexed])])  # noqa: F841 (as above)
        try:
            answer = self._writer.query(
                f"SELECT count() AS count FROM {self._database}.{table} "  # noqa: S608 (names of ours, and numbers)
                f"WHERE timestamp >= fromUnixTimestamp64Nano(toInt64({span['min']})) "
                f"AND timestamp <= fromUnixTimestamp64Nano(toInt64({span['max']})) "
                f"AND ({keys}) IN (SELECT {keys} FROM Python(rows))",
                "JSONEachRow",
            )
        except RuntimeError as error:
            raise SinkError(f"chDB cannot say what {table} holds: {tidy(str(error))}", "insert_failed") from error
        return bool(json.loads(answer.bytes())["count"])

    def _check_part(self, connection: Connection, table: str, part: str) -> str | None:
        """What is wrong with a part: empty when nothing is, None when there is no such part any more."""
        try:
            rows = read_rows(connection, f"CHECK TABLE {self._database}.{table} PART '{part}'")
        except RuntimeError as error:
            message = tidy(str(error))
            return None if "NO_SUCH_DATA_PART" in message else message
        failed = [str(row["message"]) or "check failed" for row in rows if not row["is_passed"]]
        return tidy(failed[0]) if failed else ""

    def _parts(self, connection: Connection, table: str) -> list[Row]:
        return read_rows(
            connection,
            "SELECT name, rows, min_block_number AS first_block, max_block_number AS last_block "  # noqa: S608 (ours)
            f"FROM system.parts WHERE active AND database = '{self._database}' AND table = '{table}'",
        )


def _refusal(message: str, way_out: str) -> ConfigurationError:
    return ConfigurationError([Fault(message, field="telemetry.clickhouse.url", way_out=way_out)])
