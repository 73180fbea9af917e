"""The rows that a SELECT gives, from the running mixer or from the ClickHouse server that it writes to.

Not for: what a command makes of them.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator

from mixer_py.config import Configuration, secret_faults
from mixer_py.errors import ConfigurationError, NotRunningError, QueryFailedError
from mixer_py.runtime.asking import connect
from mixer_py.telemetry.settings import ClickHouseSettings, ServerTarget


def rows_of(configuration: Configuration, sql: str) -> Iterator[str]:
    """The rows as JSON, one a line.

    Raises:
        ConfigurationError: the server's password cannot be read.
        MixerError: the query was refused or failed, or nobody answers.
    """
    clickhouse = configuration.telemetry.clickhouse
    if clickhouse is not None and isinstance(clickhouse.target, ServerTarget):
        return _rows_of_server(clickhouse, sql)
    return _rows_of_mixer(configuration, sql)


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
    connection = connect(configuration)
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


def _error_of(response: http.client.HTTPResponse) -> str:
    body = response.read()
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict) and "error" in document:
        return str(document["error"])
    return f"mixer answered with status {response.status}"
