"""What mixer knows afterwards: for each kind of request one joined row from ClickHouse, and lines of /metrics."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixer_py.demo.processes import fetch, own_environment
from mixer_py.errors import NotRunningError

Row = Mapping[str, Any]
"""One row of `requests`, by column."""

_COLUMNS = (
    "request_id", "timestamp", "verdict", "rule", "reasons", "limit_name", "limit_code", "limit_remaining",
    "request_method", "request_url_path", "response_code", "response_flags", "destination_service_name", "decision_id",
    "policy_revision",
)  # fmt: skip
_QUERY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request that the demo must have seen.

    Attributes:
        name: as the screen and the message about a missing one call it.
        fits: whether a row is of this kind; what it must hold is what only the join of all three reports can say.
    """

    name: str
    fits: Callable[[Row], bool]


KINDS = (
    Kind(
        "allowed",
        lambda row: row["verdict"] == "allow" and row["response_code"] == 200 and row["limit_code"] == "OK",
    ),
    Kind("denied by role", lambda row: row["verdict"] == "deny" and row["response_code"] == 403 and row["reasons"]),
    Kind("denied, no token", lambda row: row["verdict"] == "deny" and row["response_code"] == 401 and row["reasons"]),
    Kind(
        "over the limit",
        lambda row: row["verdict"] == "allow" and row["response_code"] == 429 and row["limit_code"] == "OVER_LIMIT",
    ),
    Kind(
        "upstream failure",
        lambda row: row["verdict"] == "allow" and row["response_code"] == 503 and "UC" in row["response_flags"],
    ),
)


def statement(request_ids: Collection[str]) -> str:
    """The SELECT that finds the rows of these requests, oldest first; ids are Envoy's, of hex digits and `-`."""
    wanted = ", ".join(f"'{request_id}'" for request_id in request_ids)
    return f"SELECT {', '.join(_COLUMNS)} FROM requests WHERE request_id IN ({wanted}) ORDER BY timestamp"  # noqa: S608


async def query(configuration: Path, sql: str) -> list[Row]:
    """Asks the running mixer, as `mixer query` does.

    Raises:
        NotRunningError: it did not answer; the message is the command's own.
    """
    return await asyncio.to_thread(_query, configuration, sql)


def _query(configuration: Path, sql: str) -> list[Row]:
    command = [sys.executable, "-m", "mixer_py.cli.main", "query", "-c", str(configuration), "--format", "json", sql]
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=False, env=own_environment()
    )
    if finished.returncode:
        raise NotRunningError((finished.stderr or finished.stdout).strip())
    return [json.loads(line) for line in finished.stdout.splitlines() if line]


def sort_out(rows: Collection[Row]) -> dict[str, Row]:
    """The first row of each kind, by the kind's name."""
    found: dict[str, Row] = {}
    for kind in KINDS:
        for row in rows:
            if kind.fits(row):
                found[kind.name] = row
                break
    return found


async def metrics(admin: int, names: Collection[str]) -> list[str]:
    """The samples of those metrics on /metrics of 127.0.0.1:`admin`.

    Raises:
        OSError: nothing answers there.
    """
    _, body = await asyncio.to_thread(fetch, admin, "/metrics")
    return [line for line in body.decode().splitlines() if line.partition("{")[0] in names]
