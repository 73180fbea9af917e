"""Policies that loop, are faulty or come in storms; bundle and OPA servers that are away, hang or talk nonsense."""

from __future__ import annotations

import signal
import time

from tests.faults.fault import Fault
from tests.faults.processes import KILLED, ONE
from tests.faults.scene import Scene
from tests.parts.http_client import request

BUNDLES, OPA = "a bundle server", "an OPA server decides"
_FAULTY = "package envoy.authz\n\nallow := \n"
_STAYS = "the last good revision decides; the fault is logged, counted and shown"


def _loop(scene: Scene) -> None:
    before = scene.restarts("worker")
    request(scene.envoy.port, "/loop", timeout=30)
    scene.eventually(lambda: scene.restarts("worker") > before and scene.ready(), "another worker")


def _faulty_policy(scene: Scene) -> None:
    good = (scene.folder / "policies" / "authz.rego").read_text()
    refused = scene.metric("mixer_reloads_total", outcome="refused")
    scene.mixer.write("policies/authz.rego", _FAULTY)
    scene.mixer.running.signal(signal.SIGHUP)
    scene.eventually(lambda: scene.metric("mixer_reloads_total", outcome="refused") > refused, "a refusal")
    scene.mixer.write("policies/authz.rego", good)
    scene.mixer.running.signal(signal.SIGHUP)


def _policies_gone(scene: Scene) -> None:
    refused = scene.metric("mixer_reloads_total", outcome="refused")
    hidden = scene.folder / "hidden"
    (scene.folder / "policies").rename(hidden)
    scene.mixer.running.signal(signal.SIGHUP)
    scene.eventually(lambda: scene.metric("mixer_reloads_total", outcome="refused") > refused, "a refusal")
    hidden.rename(scene.folder / "policies")
    scene.mixer.running.signal(signal.SIGHUP)


def _configuration_gone(scene: Scene) -> None:
    refused = scene.metric("mixer_reloads_total", outcome="refused")
    text = scene.mixer.file.read_text()
    scene.mixer.file.unlink()
    scene.mixer.running.signal(signal.SIGHUP)
    scene.eventually(lambda: scene.metric("mixer_reloads_total", outcome="refused") > refused, "a refusal")
    scene.mixer.write("mixer.yaml", text)
    scene.mixer.running.signal(signal.SIGHUP)


def _storm(scene: Scene) -> None:
    for number in range(40):
        scene.mixer.write("policies/more.rego", f"package more\n\nx := {number}\n")
        scene.mixer.running.signal(signal.SIGHUP)
        time.sleep(0.05)
    scene.eventually(scene.ready, "readiness")


def _large_reload(scene: Scene) -> None:
    """So large that it is built in a fresh worker, which takes over."""
    before = scene.mixer.revision()
    rules = "\n".join(f"x{number} := {number}" for number in range(20_000))
    scene.mixer.write("policies/more.rego", f"package more\n\n# {time.monotonic()}\n{rules}\n")
    scene.mixer.running.signal(signal.SIGHUP)
    scene.eventually(lambda: scene.mixer.revision() != before, "a new revision", 120)
    (scene.folder / "policies" / "more.rego").unlink()
    before = scene.mixer.revision()
    scene.mixer.running.signal(signal.SIGHUP)
    scene.eventually(lambda: scene.mixer.revision() != before, "the revision before", 120)


def _bundle_behaves(behaviour: str) -> object:
    def inject(scene: Scene) -> None:
        failed = scene.metric("mixer_fetches_total", outcome="failed")
        scene.parts["bundles"].behaviour = behaviour
        scene.eventually(lambda: scene.metric("mixer_fetches_total", outcome="failed") > failed, "a failed look")
        scene.parts["bundles"].behaviour = "good"
        good = scene.metric("mixer_fetches_total", outcome="unchanged")
        scene.eventually(lambda: scene.metric("mixer_fetches_total", outcome="unchanged") > good, "a good look")

    return inject


def _faulty_bundle(scene: Scene) -> None:
    good = (scene.folder / "policies" / "authz.rego").read_text()
    refused = scene.metric("mixer_reloads_total", outcome="refused")
    scene.mixer.write("policies/authz.rego", _FAULTY)
    scene.eventually(lambda: scene.metric("mixer_reloads_total", outcome="refused") > refused, "a refusal")
    scene.mixer.write("policies/authz.rego", good)
    time.sleep(1.0)


def _restart_without_bundles(scene: Scene) -> None:
    """The server is away while mixer starts: the copy on disk decides."""
    scene.parts["bundles"].behaviour = "error"
    scene.mixer.running.signal(signal.SIGTERM)
    scene.mixer.running.wait(60)
    scene.mixer.start()
    scene.parts["bundles"].behaviour = "good"


def _kill_opa(scene: Scene) -> None:
    scene.parts["opa"].stop()
    scene.eventually(lambda: scene.metric("mixer_opa_up") == 0, "that OPA is seen to be away")
    scene.parts["opa"].start()
    scene.eventually(lambda: scene.metric("mixer_opa_up") == 1, "its return")


def _hang_opa(scene: Scene) -> None:
    scene.parts["opa"].signal(signal.SIGSTOP)
    scene.eventually(lambda: scene.metric("mixer_opa_errors_total", reason="timeout") > 0, "a timeout")
    scene.parts["opa"].signal(signal.SIGCONT)
    scene.eventually(lambda: scene.metric("mixer_opa_up") == 1, "its return")


def _nobody_got_in(scene: Scene) -> str:
    """Without OPA nothing can be allowed: what failed, failed closed."""
    rows = scene.mixer.rows("SELECT count() AS n FROM requests WHERE verdict = 'error' AND response_code < 400")
    return "" if rows[0]["n"] in {0, "0"} else f"{rows[0]['n']} requests passed without a decision"


FAULTS = (
    Fault(
        "a policy that loops",
        ONE,
        "its worker is replaced; calls fail until another listens",
        _loop,
        None,
        5,
        KILLED,
        short=True,
    ),
    Fault("a faulty policy on reload", ONE, _STAYS, _faulty_policy, short=True),
    Fault("the folder of policies gone", ONE, _STAYS, _policies_gone),
    Fault("the configuration gone", ONE, _STAYS, _configuration_gone),
    Fault("a storm of 40 reloads", ONE, "no call notices", _storm),
    Fault("a large revision, and back", ONE, "a fresh worker takes over; no call notices", _large_reload),
    Fault("the bundle server answers 500", BUNDLES, "the last good bundle decides", _bundle_behaves("error")),
    Fault("the bundle server hangs", BUNDLES, "the last good bundle decides", _bundle_behaves("hang")),
    Fault("the bundle server sends a page", BUNDLES, "the last good bundle decides", _bundle_behaves("nonsense")),
    Fault("the bundle server sends half a bundle", BUNDLES, "the last good bundle decides", _bundle_behaves("cut")),
    Fault("a faulty bundle", BUNDLES, _STAYS, _faulty_bundle),
    Fault(
        "a restart while the bundle server is away",
        BUNDLES,
        "the copy on disk decides",
        _restart_without_bundles,
        None,
        3,
    ),
    Fault(
        "OPA killed and started",
        OPA,
        "checks fail closed, at once, until it is back",
        _kill_opa,
        None,
        3,
        holds=_nobody_got_in,
    ),
    Fault(
        "OPA hung",
        OPA,
        "checks fail closed, after policy.opa.timeout, until it is back",
        _hang_opa,
        None,
        3,
        holds=_nobody_got_in,
    ),
)
