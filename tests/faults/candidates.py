"""The candidate of `policy.shadow`: its process is lost, or it is faulty, and no live check notices."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from tests.faults.fault import Fault, Inject, State, While, lasting
from tests.faults.processes import pid_of, pids_of, replaced, stopped, told_to_end
from tests.faults.scene import Scene, signal_process
from tests.faults.stages import CANDIDATE, in_a_reload, in_its_start

_UNNOTICED = "no call notices"


def _in_place(scene: Scene) -> bool:
    return bool(json.loads(scene.mixer.get("/policies").body)["shadow"]["running"])


def _of_candidate(inject: Inject) -> Inject:
    """Once it is in place; and it is again afterwards."""

    def whole(scene: Scene) -> None:
        scene.eventually(lambda: _in_place(scene), "a candidate in place")
        inject(scene)
        scene.eventually(lambda: _in_place(scene), "a candidate in place again")

    if not isinstance(inject, While):
        return whole
    wrong = inject.state

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        scene.eventually(lambda: _in_place(scene), "a candidate in place")
        with wrong(scene):
            yield

    return While(state, whole)


def _kill_the_first_of_a_candidate(scene: Scene) -> None:
    """It is taken out of the configuration and put into it again, and its process killed while it starts."""
    text = scene.mixer.file.read_text()
    whole = yaml.safe_load(text)
    del whole["policy"]["shadow"]
    scene.mixer.write("mixer.yaml", yaml.safe_dump(whole))
    scene.mixer.running.signal(signal.SIGHUP)
    scene.eventually(lambda: not pids_of(scene, "shadow"), "no candidate")
    scene.mixer.write("mixer.yaml", text)
    scene.mixer.running.signal(signal.SIGHUP)
    signal_process(pid_of(scene, "shadow"), signal.SIGKILL)


def _written(text: str) -> State:
    """Somebody has written this candidate."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        good = (scene.mixer.folder / "candidate" / "authz.rego").read_text()
        scene.mixer.write("candidate/authz.rego", text)
        try:
            yield
        finally:
            scene.mixer.write("candidate/authz.rego", good)

    return state


def _loop_in_candidate(scene: Scene) -> None:
    before = scene.restarts("shadow")
    with _written(_LOOPS)(scene):
        scene.eventually(lambda: scene.restarts("shadow") > before, "another process of the candidate")


def _faulty_candidate(scene: Scene) -> None:
    refused = scene.metric("mixer_shadow_reloads_total", outcome="refused")
    with _written(_FAULTY)(scene):
        scene.eventually(lambda: scene.metric("mixer_shadow_reloads_total", outcome="refused") > refused, "a refusal")


_FAULTY = "package envoy.authz\n\nallow :=\n"
_LOOPS = """package envoy.authz

allow if {
    input.parsed_path[0] == "reviews"
    count([1 | some i in numbers.range(1, 10000); some j in numbers.range(1, 10000); i * j == 0]) == 0
}
"""


def _candidate_faults() -> Iterator[Fault]:
    stop = signal.SIGSTOP
    for name, promise, inject in (
        ("candidate killed", _UNNOTICED, replaced("shadow", signal.SIGKILL)),
        ("candidate hung", "no call notices; it is replaced after 10 s", replaced("shadow", stop)),
        ("candidate stopped for two seconds", _UNNOTICED, lasting(stopped("shadow"), 2.0)),
        ("candidate told to end by somebody else", _UNNOTICED, told_to_end("shadow")),
        ("candidate killed when it first starts", "no call notices; it is tried again", _kill_the_first_of_a_candidate),
        ("candidate hung while it starts", _UNNOTICED, in_its_start("shadow", stop)),
        ("candidate killed during a reload", _UNNOTICED, in_a_reload(replaced("shadow", signal.SIGKILL))),
        ("candidate hung during a reload", _UNNOTICED, in_a_reload(replaced("shadow", stop))),
        (
            "candidate that loops",
            "no call notices; its process is replaced",
            While(_written(_LOOPS), _loop_in_candidate),
        ),
        (
            "a faulty candidate",
            "no call notices; the candidate before stays",
            While(_written(_FAULTY), _faulty_candidate),
        ),
    ):
        yield Fault(name, CANDIDATE, promise, _of_candidate(inject))


FAULTS = tuple(_candidate_faults())
