"""A ClickHouse server that is away, hangs, is slow, talks nonsense, or is replaced by another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault, State, While, lasting
from tests.faults.scene import Scene
from tests.faults.servers import away, elsewhere, late, standing, talks
from tests.parts.clickhouse_server import PASSWORD

SERVER = "a ClickHouse server"
_WAIT = "no call notices; rows wait, and are written"
_NONSENSE = {
    "bytes of chance": bytes(range(255, 0, -1)) * 4,
    "a page of HTTP": b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno",
    "the end of its stream at once": b"\5",
}


def _until_seen(state: State) -> While:
    """It lasts until a write has failed."""

    def inject(scene: Scene) -> None:
        errors = scene.metric("mixer_store_errors_total")
        with state(scene):
            scene.eventually(lambda: scene.metric("mixer_store_errors_total") > errors, "a write that fails")
            time.sleep(1.0)

    return While(state, inject)


@contextmanager
def _another(scene: Scene) -> Iterator[None]:
    """Another takes over its address, as a replica does; then the first is back, and is given the other's rows."""
    first, other = scene.parts["clickhouse"], scene.parts["other"]
    with elsewhere(scene, other.target.port), away("clickhouse")(scene):
        yield
    for table in ("requests", "decisions"):
        source = f"remote('127.0.0.1:{other.target.port}', mesh.{table}, 'default', '{PASSWORD}')"
        first.ask(f"INSERT INTO mesh.{table} SELECT * FROM {source}")
        other.ask(f"TRUNCATE TABLE mesh.{table}")


def _followed(scene: Scene) -> None:
    with _another(scene):
        written = scene.metric("mixer_rows_total", state="written")
        scene.eventually(lambda: scene.metric("mixer_rows_total", state="written") > written, "rows at the other")


FAULTS = (
    Fault("the ClickHouse server killed and started", SERVER, _WAIT, _until_seen(away("clickhouse"))),
    Fault("the ClickHouse server hung for five seconds", SERVER, _WAIT, lasting(standing("clickhouse"), 5.0)),
    Fault("the ClickHouse server slow (1 s)", SERVER, _WAIT, lasting(late(1.0), 4.0)),
    *(
        Fault(f"the ClickHouse server answers {what}", SERVER, _WAIT, _until_seen(talks(answer)))
        for what, answer in _NONSENSE.items()
    ),
    Fault("the ClickHouse server fails over to another", SERVER, _WAIT, While(_another, _followed)),
)
