"""Read requests and decisions with one SELECT, from the running mixer or from the ClickHouse server it writes to.

Tables without a database are those of the configured one: requests, decisions, and the view request_decisions.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from mixer_py.cli.options import add_configuration, add_format, load_configuration
from mixer_py.cli.output import print_json_text, print_table
from mixer_py.config import Configuration, secret_faults, socket_candidates
from mixer_py.errors import ConfigurationError, NotRunningError, QueryFailedError
from mixer_py.telemetry.settings import ClickHouseSettings, ServerTarget

EXAMPLES = (
    "mixer query 'SELECT timestamp, verdict, response_code FROM requests ORDER BY timestamp DESC LIMIT 10'",
    "mixer query -c mixer.yaml --format json 'SELECT verdict, count() AS n FROM requests GROUP BY verdict'",
)
_TIMEOUT = 300.0  # seconds without a byte; the query's own limit is mixer's, and shorter


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("sql", metavar="SQL", help="one SELECT")
    add_configuration(parser)
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks, and prints the rows."""
    configuration = load_configuration(arguments)
    clickhouse = configuration.telemetry.clickhouse
    if clickhouse is not None and isinstance(clickhouse.target, ServerTarget):
        lines = _rows_of_server(clickhouse, arguments.sql)
    else:
        lines = _rows_of_mixer(configuration, arguments.sql)
    if arguments.format == "json":
        for line in lines:
            print_json_text(line)
        return 0
    rows = [json.loads(line) for line in lines]
    if rows:
        print_table(tuple(rows[0]), ([_cell(value) for value in row.values()] for row in rows))
    else:
        print_table(("no rows",), ())
    return 0


def _rows_of_server(clickhouse: ClickHouseSettings, sql: str) -> Iterator[str]:
    """The rows as JSON, one a line, from the server: no mixer needs to run.

    Raises:
        ConfigurationError: the server's password cannot be read.
        MixerError: what `Reader.query` raises.
    """
    from mixer_py.queries.reader import open_reader  # noqa: PLC0415 (slow to import, and a running mixer needs none)

    faults = secret_faults(clickhouse, "telemetry.clickhouse")
    if faults:
        raise ConfigurationError(faults)
    reader = open_reader(clickhouse, None)
    for line in asyncio.run(reader.query(sql)).splitlines():
        yield line.decode()


def _rows_of_mixer(configuration: Configuration, sql: str) -> Iterator[str]:
    """The rows as JSON, one a line, from the running mixer.

    Raises:
        NotRunningError: nobody answers.
        QueryFailedError: the query was refused or failed.
    """
    connection = _connect(socket_candidates(configuration.server, os.environ))
    try:
        connection.request("POST", "/query", json.dumps({"sql": sql}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise QueryFailedError(_error_of(response))
        for line in response:
            if response.length and not line.endswith(b"\n"):
                break
            if line.strip():
                yield line.decode("utf-8", "replace").rstrip("\n")
        if response.length:  # http.client ends its lines in silence when the other side goes away
            raise http.client.IncompleteRead(b"", response.length)
    except (OSError, http.client.HTTPException) as error:
        raise NotRunningError(f"mixer stopped answering: {error or type(error).__name__}") from error
    finally:
        connection.close()


def _connect(candidates: tuple[Path, ...]) -> http.client.HTTPConnection:
    refused = []
    for path in candidates:
        connection = _UnixConnection(path)
        try:
            connection.connect()
        except FileNotFoundError:
            refused.append(f"{path} (not there)")
        except OSError as error:
            refused.append(f"{path} ({error.strerror or error})")
        else:
            return connection
    tried = ", ".join(refused)
    way_out = "start one with `mixer serve`, or name its configuration with -c"
    raise NotRunningError(f"no mixer answers at {tried}; {way_out}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("mixer", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_TIMEOUT)
        try:
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        self.sock = connection


def _error_of(response: http.client.HTTPResponse) -> str:
    body = response.read()
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict) and "error" in document:
        return str(document["error"])
    return f"mixer answered with status {response.status}"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
