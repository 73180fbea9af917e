"""Keeps the definitions of chDB's tables whole where the disk fails, or is full, while they are changed.

On such a disk chDB leaves half of a definition, without a word, and cannot open the folder any more. So they are copied
before the first change, looked at after the last, and put back where that did not go well: at once, or when the folder
is opened the next time. No rows are lost by it, because none are written in between.
Not for: what is to be changed (`migrations.py`, `table_settings.py`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from mixer_py.errors import MigrationError
from mixer_py.telemetry.layout import Layout
from mixer_py.telemetry.migrations import Ask, migrate
from mixer_py.telemetry.store.connection import Connection, is_locked, read_rows
from mixer_py.telemetry.store.table_settings import set_up_tables

_PLACES: Final = ("metadata/*.sql", "metadata_dropped/*.sql", "store/*/*/*.sql")
"""Where chDB keeps definitions: of databases, of tables that it has yet to remove, and of tables."""

_ROWS: Final = "INSERT "
"""How a statement begins that changes no definition."""


class Definitions:
    """Those of one folder."""

    def __init__(self, directory: Path, database: str) -> None:
        self._directory = directory
        self._database = database
        self._saved = directory / "definitions_before_change"
        """There while a change is under way, or after one that did not go well; whole if it is there at all."""

    def bring_up(self, connection: Connection, layout: Layout, tables: Iterable[str]) -> tuple[str, ...]:
        """Brings the database to this version, and gives tables their settings; the statements that changed tables.

        Raises:
            MigrationError: tables are there that cannot be changed; or the disk does not take what they were, and
                nothing was changed; or what they are to be, and `put_back` has to undo it.
        """

        def run(statement: str) -> object:
            if not statement.startswith(_ROWS) and not self._saved.is_dir():
                self._save()
            return connection.query(statement)

        ask = partial(read_rows, connection)
        settle = partial(self._settle, ask)
        changes = migrate(layout, ask, run, settle)
        set_up_tables(ask, run, layout.database, tables)
        settle()
        return changes

    def put_back(self) -> None:
        """Puts back what was there before a change that did not end; nothing where none is known, or it goes on.

        No connection of this process may be open.

        Raises:
            MigrationError: the disk does not take them; they are put back another time.
        """
        if not self._saved.is_dir() or is_locked(self._directory / "status"):
            return
        try:
            self._restore()
        except OSError as error:
            raise MigrationError(
                f"a change of tables did not end, and {self._directory} does not take what they were: {error.strerror}"
            ) from error
        structlog.get_logger("store", process="store", directory=str(self._directory)).warning(
            "tables are defined again as before a change that did not end", way_out="nothing to do; watch the disk"
        )

    def _settle(self, ask: Ask) -> None:
        """Lets go of the copies after the last change.

        Raises:
            MigrationError: a definition is not whole on disk.
        """
        if not self._saved.is_dir():
            return
        unread = ask(f"SELECT name FROM system.tables WHERE database = '{self._database}' AND create_table_query = ''")  # noqa: S608 (ours)
        half = [name for name in self._there() if not (self._directory / name).read_bytes().endswith(b"\n")]
        if half or unread:
            named = ", ".join([*(str(row["name"]) for row in unread), *sorted(map(str, half))])
            raise MigrationError(f"what was changed of the tables is not whole on disk ({named}): look after the disk")
        self._forget()

    def _restore(self) -> None:
        kept = {file.relative_to(self._saved) for file in self._saved.rglob("*.sql")}
        for name in self._there() - kept:
            (self._directory / name).unlink()
        for name in kept:  # linked and not moved, so that it can be begun anew; that takes no room
            link = (self._directory / name).with_suffix(".sql.tmp")  # chDB clears away what ends so
            link.unlink(missing_ok=True)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(self._saved / name)
            link.replace(self._directory / name)
        self._forget()

    def _there(self) -> set[Path]:
        return {file.relative_to(self._directory) for place in _PLACES for file in self._directory.glob(place)}

    def _save(self) -> None:
        draft = self._saved.with_suffix(".draft")
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            for name in self._there():
                _copy(self._directory / name, draft / name)
            draft.rename(self._saved)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise MigrationError(
                f"its tables are to be changed, and the disk does not take a copy of what they are: {error.strerror}; "
                "make room, or look after the disk"
            ) from error

    def _forget(self) -> None:
        old = self._saved.with_suffix(".old")
        shutil.rmtree(old, ignore_errors=True)
        self._saved.rename(old)  # at once, so that half of them is never put back
        shutil.rmtree(old, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Copies a file, and waits until the disk has it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())
