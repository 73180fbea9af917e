"""A counter store of its own that is away, hangs, is slow, forgets, or is not what it seems."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

from tests.faults.fault import Fault, State, While, again, lasting
from tests.faults.scene import Scene
from tests.faults.servers import away, late, standing, talks

VALKEY, REDIS = "a Valkey of its own", "a Redis of its own"
ALLOWED = "with on_error: allow no call fails; none waits much longer than rate_limit.timeout"

NO_LENGTH = b"$none\r\n"
_NONSENSE = {
    "a page of HTTP": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
    "bytes of chance": bytes(range(255, 0, -1)) * 4,
    "a number": b":1\r\n",
    "a length that is none": NO_LENGTH,
}


def _back(scene: Scene) -> None:
    scene.eventually(lambda: scene.metric("mixer_counter_store_up") == 1, "the store's return")


def _away(scene: Scene) -> None:
    scene.eventually(lambda: scene.metric("mixer_counter_store_up") == 0, "that the store is seen to be away")


def until_seen(state: State) -> While:
    """It lasts until mixer sees that the store is away, and a second more; then the store returns."""

    def inject(scene: Scene) -> None:
        with state(scene):
            _away(scene)
            time.sleep(1.0)
        _back(scene)

    return While(state, inject)


def _cut(scene: Scene) -> None:
    scene.parts["proxy"].cut()


@contextmanager
def _replica(scene: Scene) -> Iterator[None]:
    """It becomes a replica of nobody, as in a failover that went wrong, and then a master again."""
    valkey = scene.parts["valkey"]
    valkey.ask("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        valkey.ask("REPLICAOF", "NO", "ONE")


@contextmanager
def _full(scene: Scene) -> Iterator[None]:
    valkey = scene.parts["valkey"]
    valkey.ask("CONFIG", "SET", "maxmemory", "1mb")
    try:
        yield
    finally:
        valkey.ask("CONFIG", "SET", "maxmemory", "0")


def _forget(scene: Scene) -> None:
    valkey = scene.parts["valkey"]
    valkey.ask("SCRIPT", "FLUSH")
    valkey.ask("FLUSHALL")


@contextmanager
def _other_password(scene: Scene) -> Iterator[None]:
    """Its password is changed under us, and changed back."""
    valkey = scene.parts["valkey"]
    valkey.ask("CONFIG", "SET", "requirepass", "other")
    scene.parts["proxy"].cut()
    try:
        yield
    finally:
        valkey.secret = "other"
        valkey.ask("CONFIG", "SET", "requirepass", "")
        valkey.secret = ""


@contextmanager
def _busy(scene: Scene) -> Iterator[None]:
    """A script of somebody else's blocks it for two seconds."""

    def block() -> None:
        with suppress(OSError):  # nobody waits for its answer
            scene.parts["valkey"].ask("DEBUG", "SLEEP", "2")

    blocking = Thread(target=block)
    blocking.start()
    time.sleep(0.1)
    try:
        yield
    finally:
        blocking.join()


def _faults_of(store: str, setup: str) -> Iterator[Fault]:
    """What may happen to one server, whoever made it."""
    for name, promise, inject in (
        ("killed and started empty", ALLOWED, until_seen(away("valkey"))),
        ("hung", ALLOWED, until_seen(standing("valkey"))),
        ("slow (300 ms)", ALLOWED, until_seen(late(0.3))),
        ("cut off, five times", ALLOWED, again(_cut, 5, 0.3)),
        ("made a replica", ALLOWED, until_seen(_replica)),
        ("without memory", ALLOWED, lasting(_full, 2.0, _back)),
        ("without scripts and counters", "no call fails; counting begins anew", again(_forget, 3, 0.2)),
        ("with another password", ALLOWED, until_seen(_other_password)),
        ("busy with somebody's script", ALLOWED, lasting(_busy, 0.0, _back)),
        *((f"answers {what}", ALLOWED, until_seen(talks(answer))) for what, answer in _NONSENSE.items()),
    ):
        yield Fault(f"{store} {name}", setup, promise, inject)


FAULTS = (*_faults_of("Valkey", VALKEY), *_faults_of("Redis", REDIS))
