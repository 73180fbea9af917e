"""A counter store of its own that is away, hangs, is slow, forgets, or is not what it seems."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

from tests.faults.fault import Fault, State, While, again, lasting
from tests.faults.scene import Scene
from tests.faults.servers import away, late, standing, talks
from tests.parts.valkey import Valkey
from tests.parts.valkey_groups import Watched

VALKEY, REDIS = "a Valkey of its own", "a Redis of its own"
SENTINEL, CLUSTER = "a Valkey that Sentinels watch", "a cluster of Valkeys"
_ALLOWED = "with on_error: allow no call fails; none waits much longer than rate_limit.timeout"

_FOLLOWED = "with on_error: allow no call fails; the one that was promoted counts"
_NONSENSE = {
    "a page of HTTP": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
    "bytes of chance": bytes(range(255, 0, -1)) * 4,
    "a number": b":1\r\n",
}


def _back(scene: Scene) -> None:
    scene.eventually(lambda: scene.metric("mixer_counter_store_up") == 1, "the store's return")


def _away(scene: Scene) -> None:
    scene.eventually(lambda: scene.metric("mixer_counter_store_up") == 0, "that the store is seen to be away")


def _until_seen(state: State) -> While:
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


def _masters(scene: Scene) -> list[Valkey]:
    """Those that say that they are masters."""
    found = []
    for one in scene.parts["valkeys"]:
        with suppress(OSError):
            if one.ask("ROLE").startswith(b"*3\r\n$6\r\nmaster"):
                found.append(one)
    return found


def _charges(master: Valkey) -> int:
    """How many charges it has made."""
    return sum(int(count) for count in re.findall(rb"cmdstat_evalsha:calls=(\d+)", master.ask("INFO", "commandstats")))


@contextmanager
def failing_over(scene: Scene) -> Iterator[None]:
    """The master that counts is killed, and its replica is to be made one in its place; it comes back as a replica."""
    before = _masters(scene)
    lost = max(before, key=_charges)
    lost.kill()
    try:
        yield
        scene.eventually(lambda: len(_masters(scene)) >= len(before), "a replica that was made a master")
    finally:
        lost.start()
        scene.eventually(lambda: b"master_link_status:up" in lost.ask("INFO", "replication"), "a replica again", 120)


def _fail_over(scene: Scene) -> None:
    with failing_over(scene):
        time.sleep(1.0)
    scene.eventually(lambda: _counts(scene), "that hits are counted again")


def _counts(scene: Scene) -> bool:
    """Whether hits were charged in the last second, and none failed to be."""
    errors, charged = scene.metric("mixer_store_errors_total"), sum(map(_charges, _masters(scene)))
    time.sleep(1.0)
    return sum(map(_charges, _masters(scene))) > charged and scene.metric("mixer_store_errors_total") == errors


@contextmanager
def _ordered_over(scene: Scene) -> Iterator[None]:
    """As an operator has it done before the machine of a master is taken away: nothing is killed."""
    before, sentinel = _masters(scene), scene.parts["sentinel"]
    # Just after another fail-over it finds no replica good enough, and refuses.
    scene.eventually(
        lambda: sentinel.ask("SENTINEL", "FAILOVER", Watched.name).startswith(b"+OK"), "an order that is taken"
    )
    yield
    scene.eventually(lambda: len(_masters(scene)) == 1 and _masters(scene) != before, "another master")


def _change_over(scene: Scene) -> None:
    with _ordered_over(scene):
        pass
    scene.eventually(lambda: _counts(scene), "that hits are counted again")


def _faults_of(store: str, setup: str) -> Iterator[Fault]:
    """What may happen to one server, whoever made it."""
    for name, promise, inject in (
        ("killed and started empty", _ALLOWED, _until_seen(away("valkey"))),
        ("hung", _ALLOWED, _until_seen(standing("valkey"))),
        ("slow (300 ms)", _ALLOWED, _until_seen(late(0.3))),
        ("cut off, five times", _ALLOWED, again(_cut, 5, 0.3)),
        ("made a replica", _ALLOWED, _until_seen(_replica)),
        ("without memory", _ALLOWED, lasting(_full, 2.0, _back)),
        ("without scripts and counters", "no call fails; counting begins anew", again(_forget, 3, 0.2)),
        ("with another password", _ALLOWED, _until_seen(_other_password)),
        ("busy with somebody's script", _ALLOWED, lasting(_busy, 0.0, _back)),
        *((f"answers {what}", _ALLOWED, _until_seen(talks(answer))) for what, answer in _NONSENSE.items()),
    ):
        yield Fault(f"{store} {name}", setup, promise, inject)


FAULTS = (
    *_faults_of("Valkey", VALKEY),
    *_faults_of("Redis", REDIS),
    Fault("a master killed, and a replica promoted by Sentinels", SENTINEL, _FOLLOWED, While(failing_over, _fail_over)),
    Fault("a replica promoted by an operator's order", SENTINEL, _FOLLOWED, While(_ordered_over, _change_over)),
    Fault(
        "a master of a cluster killed, and its replica promoted", CLUSTER, _FOLLOWED, While(failing_over, _fail_over)
    ),
)
