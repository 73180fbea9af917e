"""Policies made up at random have one value in the virtual machine, in the interpreter and in OPA."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from mixer_py.demo.processes import Ports
from mixer_py.errors import EvaluationError, PolicyLoadError
from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.engines.interpreter import Interpreter
from mixer_py.policy.engines.rvm import Machine, MachineStoppedError
from tests.parts.opa_server import Answer, Opa, PolicyRefusedError
from tests.parts.programs import Programs
from tests.policy.generated_rego import DATA, INPUTS, is_sound, policy

SEEDS = range(40)
DECISION = "p/value"
STOPPED = Answer("stopped")


@pytest.fixture(scope="module")
def opa(module_programs: Programs, ports: Ports) -> Iterator[Opa]:
    server = Opa(module_programs, ports)
    yield server
    server.close()


def ask(evaluate: Callable[[str, str], str], document: object) -> Answer:
    try:
        value = json.loads(evaluate(DECISION, json.dumps(document)))
    except MachineStoppedError:
        return STOPPED
    except EvaluationError:
        return Answer("error")
    return Answer("undefined") if value == "<undefined>" else Answer("value", value[0])


def plain(answer: Answer) -> str:
    return f"{answer.kind} {json.dumps(answer.value, sort_keys=True)}"


class Tiers:
    """One policy in both tiers."""

    def __init__(self, text: str) -> None:
        self.interpreter = Interpreter(Bundle((Module("p.rego", text),), DATA, (), ""), [DECISION], lambda _: None)
        self.machine = Machine(self.interpreter.trees, [DECISION], self.interpreter.read_data)


def load(text: str) -> Tiers | None:
    try:
        return Tiers(text)
    except PolicyLoadError:
        return None


def test_the_tiers_agree() -> None:
    """Where both say something it is the same; and the machine says something often enough to mean anything."""
    said = 0
    for seed in SEEDS:
        text = policy(seed)
        tiers = load(text)
        if tiers is None or not tiers.machine.has(DECISION):
            continue
        for document in INPUTS:
            ours, theirs = ask(tiers.machine.evaluate, document), ask(tiers.interpreter.evaluate, document)
            if ours != STOPPED and theirs.kind != "error":
                assert plain(ours) == plain(theirs), f"seed {seed}\n{text}\n{json.dumps(document)}"
                said += 1
    assert said > len(SEEDS) / 2


@pytest.mark.opa
def test_opa_agrees(opa: Opa) -> None:
    said = 0
    for seed in SEEDS:
        text = policy(seed)
        tiers = load(text)
        if tiers is None or not is_sound(text):
            continue
        try:
            with opa.holding(text, json.dumps(DATA)):
                for document in INPUTS:
                    wanted = opa.evaluate(DECISION, json.dumps(document))
                    said += _compare(tiers, document, wanted, f"seed {seed}\n{text}\n{json.dumps(document)}")
        except PolicyRefusedError:
            continue
    assert said > len(SEEDS) / 2


def _compare(tiers: Tiers, document: object, wanted: Answer, place: str) -> int:
    """Both tiers say what OPA says, or nothing: how many did."""
    answers = [ask(tiers.interpreter.evaluate, document)]
    if tiers.machine.has(DECISION):
        answers.append(ask(tiers.machine.evaluate, document))
    answers = [answer for answer in answers if answer.kind not in {"error", "stopped"}]
    for answer in answers:
        assert plain(answer) == plain(wanted), place
    return len(answers)
