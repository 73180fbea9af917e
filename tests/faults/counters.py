"""A counter store of its own that is away, hangs, is slow, forgets, or is not what it seems."""

from __future__ import annotations

import time
from contextlib import suppress

from tests.faults.fault import Fault
from tests.faults.scene import Scene

VALKEY = "a Valkey of its own"
_ALLOWED = "with on_error: allow no call fails; none waits much longer than rate_limit.timeout"


def _back(scene: Scene) -> None:
    scene.eventually(lambda: scene.metric("mixer_counter_store_up") == 1, "the store's return")


def _away(scene: Scene) -> None:
    scene.eventually(lambda: scene.metric("mixer_counter_store_up") == 0, "that the store is seen to be away")


def _kill(scene: Scene) -> None:
    valkey = scene.parts["valkey"]
    valkey.kill()
    _away(scene)
    valkey.start()
    _back(scene)


def _hang(scene: Scene) -> None:
    valkey = scene.parts["valkey"]
    valkey.hang()
    _away(scene)
    time.sleep(1.0)
    valkey.go_on()
    _back(scene)


def _slow(scene: Scene) -> None:
    proxy = scene.parts["proxy"]
    proxy.delay = 0.3
    _away(scene)
    proxy.delay = 0.0
    _back(scene)


def _cut(scene: Scene) -> None:
    for _ in range(5):
        scene.parts["proxy"].cut()
        time.sleep(0.3)
    _back(scene)


def _replica(scene: Scene) -> None:
    """It becomes a replica of nobody, as in a failover that went wrong, and then a master again."""
    valkey = scene.parts["valkey"]
    valkey.ask("REPLICAOF", "127.0.0.1", "1")
    _away(scene)
    valkey.ask("REPLICAOF", "NO", "ONE")
    _back(scene)


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


FAULTS = (
    Fault("Valkey killed and started empty", VALKEY, _ALLOWED, _kill, short=True),
    Fault("Valkey hung", VALKEY, _ALLOWED, _hang),
    Fault("Valkey slow (300 ms)", VALKEY, _ALLOWED, _slow),
    Fault("connections to Valkey cut, five times", VALKEY, _ALLOWED, _cut),
    Fault("Valkey became a replica", VALKEY, _ALLOWED, _replica),
    Fault("Valkey's memory is full", VALKEY, _ALLOWED, _full),
    Fault("Valkey forgot scripts and counters", VALKEY, "no call fails; counting begins anew", _forgets),
    Fault("Valkey's password was changed", VALKEY, _ALLOWED, _password),
    Fault("Valkey busy with somebody's script", VALKEY, _ALLOWED, _busy),
)
