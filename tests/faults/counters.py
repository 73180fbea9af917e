"""A counter store of its own that is away, hangs, is slow, forgets, or is not what it seems."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.faults.fault import Fault, Inject, Lasting, State
from tests.faults.proxied import late, talks
from tests.faults.scene import Scene
from tests.parts.valkey import Valkey
from tests.parts.valkey_groups import Watched

VALKEY, SENTINEL, CLUSTER = "a Valkey of its own", "a Valkey that Sentinels watch", "a cluster of Valkeys"
_ALLOWED = "with on_error: allow no call fails; none waits much longer than rate_limit.timeout"

_FOLLOWED = "with on_error: allow no call fails; the one that was promoted counts"
_NONSENSE = {
    "a page of HTTP": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
    "bytes of chance": bytes(range(255, 0, -1)) * 4,
    "with an answer of the wrong kind": b":1\r\n",
}


def _back(scene: Scene) -> None:
    scene.eventually(lambda: scene.metric("mixer_counter_store_up") == 1, "the store's return")


def _away(scene: Scene) -> None:
    scene.eventually(lambda: scene.metric("mixer_counter_store_up") == 0, "that the store is seen to be away")


def _until_seen(state: State) -> Inject:
    """It lasts until mixer sees that the store is away, and a second more; then the store returns."""

    def inject(scene: Scene) -> None:
        with state(scene):
            _away(scene)
            time.sleep(1.0)
        _back(scene)

    return inject


@contextmanager
def _killed(scene: Scene) -> Iterator[None]:
    scene.parts["valkey"].kill()
    try:
        yield
    finally:
        scene.parts["valkey"].start()


@contextmanager
def _hung(scene: Scene) -> Iterator[None]:
    scene.parts["valkey"].hang()
    try:
        yield
    finally:
        scene.parts["valkey"].go_on()


def _cut(scene: Scene) -> None:
    for _ in range(5):
        scene.parts["proxy"].cut()
        time.sleep(0.3)
    _back(scene)


@contextmanager
def _replica(scene: Scene) -> Iterator[None]:
    """It becomes a replica of nobody, as in a failover that went wrong, and then a master again."""
    valkey = scene.parts["valkey"]
    valkey.ask("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        valkey.ask("REPLICAOF", "NO", "ONE")


def _full(scene: Scene) -> None:
    valkey = scene.parts["valkey"]
    valkey.ask("CONFIG", "SET", "maxmemory", "1mb")
    time.sleep(2.0)
    valkey.ask("CONFIG", "SET", "maxmemory", "0")
    _back(scene)


def _forgets(scene: Scene) -> None:
    valkey = scene.parts["valkey"]
    for _ in range(3):
        valkey.ask("SCRIPT", "FLUSH")
        valkey.ask("FLUSHALL")
        time.sleep(0.2)
    _back(scene)


def _password(scene: Scene) -> None:
    """Its password is changed under us, and changed back."""
    valkey = scene.parts["valkey"]
    valkey.ask("CONFIG", "SET", "requirepass", "other")
    scene.parts["proxy"].cut()
    _away(scene)
    valkey.secret = "other"
    valkey.ask("CONFIG", "SET", "requirepass", "")
    valkey.secret = ""
    _back(scene)


def _busy(scene: Scene) -> None:
    """A script of somebody else's blocks it."""
    valkey = scene.parts["valkey"]
    with suppress(OSError):  # nobody waits for its answer
        valkey.ask("DEBUG", "SLEEP", "2")
    _back(scene)


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


def _change_over(scene: Scene) -> None:
    """As an operator has it done before the machine of a master is taken away: nothing is killed."""
    before = _masters(scene)
    scene.parts["sentinel"].ask("SENTINEL", "FAILOVER", Watched.name)
    scene.eventually(lambda: len(_masters(scene)) == 1 and _masters(scene) != before, "another master")
    scene.eventually(lambda: _counts(scene), "that hits are counted again")


FAULTS = (
    Fault("Valkey killed and started empty", VALKEY, _ALLOWED, _until_seen(_killed)),
    Fault("Valkey hung", VALKEY, _ALLOWED, _until_seen(_hung)),
    Fault("Valkey slow (300 ms)", VALKEY, _ALLOWED, _until_seen(late(0.3))),
    Fault("connections to Valkey cut, five times", VALKEY, _ALLOWED, _cut),
    Fault("Valkey became a replica", VALKEY, _ALLOWED, _until_seen(_replica)),
    Fault("Valkey's memory is full", VALKEY, _ALLOWED, _full),
    Fault("Valkey forgot scripts and counters", VALKEY, "no call fails; counting begins anew", _forgets),
    Fault("Valkey's password was changed", VALKEY, _ALLOWED, _password),
    Fault("Valkey busy with somebody's script", VALKEY, _ALLOWED, _busy),
    *(
        Fault(f"Valkey answers {what}", VALKEY, _ALLOWED, _until_seen(talks(answer)))
        for what, answer in _NONSENSE.items()
    ),
    Fault("a master killed, and a replica promoted by Sentinels", SENTINEL, _FOLLOWED, _fail_over),
    Fault("a replica promoted by an operator's order", SENTINEL, _FOLLOWED, _change_over),
    Fault("a master of a cluster killed, and its replica promoted", CLUSTER, _FOLLOWED, _fail_over),
)

LASTING = (
    Lasting("Valkey away", VALKEY, _killed),
    Lasting("Valkey hung", VALKEY, _hung),
    Lasting("Valkey slow", VALKEY, late(0.3)),
    Lasting("Valkey talking nonsense", VALKEY, talks(_NONSENSE["a page of HTTP"])),
    Lasting("Valkey turned into a replica", VALKEY, _replica),
    Lasting("Valkey failing over", SENTINEL, failing_over),
    Lasting("a cluster of Valkeys failing over", CLUSTER, failing_over),
)
