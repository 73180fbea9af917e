"""SIGTERM while something else is wrong: mixer ends in its time all the same, with 0, and starts again."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tests.faults.counters import VALKEY
from tests.faults.fault import Fault
from tests.faults.policies import BUNDLES, OPA
from tests.faults.processes import KILLED, ONE, STORE, TWO, WORKER
from tests.faults.scene import Scene, signal_process
from tests.parts.http_client import request

_MOST = 45.0
"""Seconds: server.drain_timeout, server.flush_timeout, and as much for killing what hangs."""
_ENDS = "it ends in its time, and starts again"


def _end_and_start(scene: Scene, after: Callable[[], object] = lambda: None) -> None:
    begun = time.monotonic()
    scene.mixer.running.signal(signal.SIGTERM)
    scene.mixer.running.wait(_MOST)
    scene.parts["ended"] = (time.monotonic() - begun, scene.mixer.running.exit_code)
    after()
    scene.mixer.start()


def _with_store_hung(scene: Scene) -> None:
    signal_process(scene.mixer.children(STORE)[0], signal.SIGSTOP)
    _end_and_start(scene)


def _with_store_killed(scene: Scene) -> None:
    signal_process(scene.mixer.children(STORE)[0], signal.SIGKILL)
    _end_and_start(scene)


def _with_worker_hung(scene: Scene) -> None:
    signal_process(scene.mixer.children(WORKER)[0], signal.SIGSTOP)
    _end_and_start(scene)


def _with_loop(scene: Scene) -> None:
    def loop() -> None:
        with suppress(OSError):
            request(scene.envoy.port, "/loop", timeout=10)

    looping = threading.Thread(target=loop)
    looping.start()
    time.sleep(0.1)
    _end_and_start(scene)
    looping.join()


def _with_reload(scene: Scene) -> None:
    scene.mixer.write("policies/more.rego", f"package more\n\nx := {time.monotonic()}\n")
    scene.mixer.running.signal(signal.SIGHUP)
    _end_and_start(scene)


def _with_embedded_valkey_hung(scene: Scene) -> None:
    signal_process(scene.mixer.valkey(), signal.SIGSTOP)
    _end_and_start(scene)


def _with_valkey_hung(scene: Scene) -> None:
    valkey = scene.parts["valkey"]
    valkey.hang()
    _end_and_start(scene, valkey.go_on)


def _with_opa_hung(scene: Scene) -> None:
    opa = scene.parts["opa"]
    opa.signal(signal.SIGSTOP)
    _end_and_start(scene, lambda: opa.signal(signal.SIGCONT))


def _with_bundles_hung(scene: Scene) -> None:
    scene.parts["bundles"].behaviour = "hang"
    time.sleep(0.5)
    _end_and_start(scene)
    scene.parts["bundles"].behaviour = "good"


def _in_time(scene: Scene) -> str:
    seconds, code = scene.parts["ended"]
    return "" if code == 0 else f"it ended with {code} after {seconds:.1f} s"


FAULTS = tuple(
    Fault(f"SIGTERM with {what}", setup, _ENDS, inject, None, 3, losing, _in_time, short=what == "a reload under way")
    for what, setup, inject, losing in (
        ("the store hung", ONE, _with_store_hung, frozenset({"killed", "flush_timeout"})),
        ("the store killed", ONE, _with_store_killed, frozenset[str]()),
        ("the worker hung", ONE, _with_worker_hung, KILLED),
        ("a policy that loops", ONE, _with_loop, KILLED),
        ("a reload under way", ONE, _with_reload, frozenset[str]()),
        ("the embedded Valkey hung", TWO, _with_embedded_valkey_hung, frozenset[str]()),
        ("Valkey hung", VALKEY, _with_valkey_hung, frozenset[str]()),
        ("OPA hung", OPA, _with_opa_hung, frozenset[str]()),
        ("the bundle server hung", BUNDLES, _with_bundles_hung, frozenset[str]()),
    )
)
