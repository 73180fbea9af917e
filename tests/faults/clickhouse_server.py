"""A ClickHouse server that is away, hangs, is slow, talks nonsense, or is replaced by another."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault, Inject, Lasting, State, lasting
from tests.faults.proxied import late, talks
from tests.faults.scene import Scene
from tests.parts.clickhouse_server import PASSWORD

SERVER = "a ClickHouse server"
_WAIT = "no call notices; rows wait, and are written"
_NONSENSE = {
    "bytes of chance": bytes(range(255, 0, -1)) * 4,
    "a page of HTTP": b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno",
    "the end of its stream at once": b"\5",
}


@contextmanager
def _away(scene: Scene) -> Iterator[None]:
    scene.parts["clickhouse"].kill()
    try:
        yield
    finally:
        scene.parts["clickhouse"].start()


@contextmanager
def _hung(scene: Scene) -> Iterator[None]:
    scene.parts["clickhouse"].signal(signal.SIGSTOP)
    try:
        yield
    finally:
        scene.parts["clickhouse"].signal(signal.SIGCONT)


def _until_seen(state: State) -> Inject:
    """It lasts until a write has failed."""

    def inject(scene: Scene) -> None:
        errors = scene.metric("mixer_store_errors_total")
        with state(scene):
            scene.eventually(lambda: scene.metric("mixer_store_errors_total") > errors, "a write that fails")
            time.sleep(1.0)

    return inject


def _another(scene: Scene) -> None:
    """Another takes over its address, as a replica does; then the first is back, and is given the other's rows."""
    proxy, first, other = scene.parts["proxy"], scene.parts["clickhouse"], scene.parts["other"]
    before = proxy.target
    proxy.target = other.target.port
    proxy.cut()
    first.kill()
    written = scene.metric("mixer_rows_total", state="written")
    scene.eventually(lambda: scene.metric("mixer_rows_total", state="written") > written, "rows at the other server")
    first.start()
    proxy.target = before
    proxy.cut()
    source = f"remote('127.0.0.1:{other.target.port}', mesh.requests, 'default', '{PASSWORD}')"
    first.ask(f"INSERT INTO mesh.requests SELECT * FROM {source}")


FAULTS = (
    Fault("the ClickHouse server killed and started", SERVER, _WAIT, _until_seen(_away)),
    Fault("the ClickHouse server hung for five seconds", SERVER, _WAIT, lasting(_hung, 5.0)),
    Fault("the ClickHouse server slow (1 s)", SERVER, _WAIT, lasting(late(1.0), 4.0)),
    *(
        Fault(f"the ClickHouse server answers {what}", SERVER, _WAIT, _until_seen(talks(answer)))
        for what, answer in _NONSENSE.items()
    ),
    Fault("the ClickHouse server fails over to another", SERVER, _WAIT, _another),
)

LASTING = (
    Lasting("the ClickHouse server away", SERVER, _away),
    Lasting("the ClickHouse server hung", SERVER, _hung),
    Lasting("the ClickHouse server talking nonsense", SERVER, talks(_NONSENSE["bytes of chance"])),
)
