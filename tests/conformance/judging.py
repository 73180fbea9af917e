"""What the embedded engine makes of a case, and whether that is what OPA makes of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from mixer_py.errors import EvaluationError, PolicyLoadError, RequestParseError, UndefinedDecisionError
from mixer_py.policy.bundles.bundle import Module
from mixer_py.policy.engines.embedded import INTERPRETER, EmbeddedEngine
from mixer_py.policy.engines.interpreter import Interpreter
from mixer_py.policy.engines.protocol import NoWatch
from mixer_py.policy.rego.version_zero import as_version_one
from tests.conformance.cases import Case, Wanted

Evaluated = tuple[object, str]
"""A decision's value, and the tier."""


class Verdict(StrEnum):
    """How a case ended."""

    PASS = "pass"
    UNASKABLE = "cannot be asked"
    REFUSED = "refused at load"
    REFUSED_INPUT = "input refused"
    FAILED = "failed"
    WRONG = "wrong answer"
    MISSED = "missed error"


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a case ended in a tier, and why."""

    case: Case
    tier: str
    verdict: Verdict
    why: str = ""


def judge(case: Case, opa: Path) -> Iterator[Judgement]:
    """One judgement for each tier that evaluates the case, or one that says why none does.

    Args:
        case: the case.
        opa: OPA's program, which is asked where a case only says what strict errors do.
    """
    if case.unaskable:
        yield Judgement(case, "load", Verdict.UNASKABLE, case.unaskable)
        return
    asked = case
    try:
        case = _as_version_one(case)
        engine = EmbeddedEngine(case.bundle, [case.decision], NoWatch())
    except PolicyLoadError as error:
        yield Judgement(asked, "load", Verdict.REFUSED, "; ".join(str(fault) for fault in error.faults))
        return
    wanted = case.wanted if case.wanted is not None else ask_opa(asked, opa)
    if engine.tier_of(case.decision) != INTERPRETER:
        yield _judge_evaluation(case, wanted, partial(_evaluate, engine))
    interpreter = Interpreter(case.bundle, [case.decision], lambda _: None)
    yield _judge_evaluation(case, wanted, partial(_interpret, interpreter))


def _as_version_one(case: Case) -> Case:
    """A case in Rego v0 as a bundle of such modules is read.

    Raises:
        PolicyLoadError: a module cannot be.
    """
    if case.rego_version:
        return case
    modules = tuple(Module(one.file, as_version_one(one.text, one.file)) for one in case.bundle.modules)
    return replace(case, bundle=replace(case.bundle, modules=modules))


def _evaluate(engine: EmbeddedEngine, case: Case) -> Evaluated:
    evaluation = asyncio.run(engine.evaluate(case.decision, case.input_json))
    return evaluation.value, evaluation.tier


def _interpret(interpreter: Interpreter, case: Case) -> Evaluated:
    value = json.loads(interpreter.evaluate(case.decision, case.input_json))
    if value == "<undefined>":
        raise UndefinedDecisionError
    return value[0], INTERPRETER


def _judge_evaluation(case: Case, wanted: Wanted, evaluate: Callable[[Case], Evaluated]) -> Judgement:
    tier = INTERPRETER
    try:
        value, tier = evaluate(case)
    except UndefinedDecisionError:
        got = Wanted("undefined")
    except RequestParseError as error:
        return Judgement(case, tier, Verdict.REFUSED_INPUT, str(error))
    except EvaluationError as error:
        return Judgement(case, tier, Verdict.PASS if wanted.kind == "error" else Verdict.FAILED, str(error))
    else:
        got = Wanted("value", value)
    if wanted.kind == "error":
        return Judgement(case, tier, Verdict.MISSED, f"{got.kind} {got.value}")
    if wanted.kind == got.kind and alike(wanted.value, got.value, unordered=wanted.unordered):
        return Judgement(case, tier, Verdict.PASS)
    return Judgement(case, tier, Verdict.WRONG, f"wanted {wanted.kind} {wanted.value}, got {got.kind} {got.value}")


def alike(wanted: object, got: object, *, unordered: bool) -> bool:
    """Whether two JSON values are one in Rego; `true` is not `1`, and `1` is `1.0`."""
    return canonical(wanted, unordered=unordered) == canonical(got, unordered=unordered)


def canonical(value: object, *, unordered: bool) -> str:
    """The text that all values have which are one value in Rego."""
    return json.dumps(_plain(value, unordered=unordered), sort_keys=True)


def _plain(value: object, *, unordered: bool) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, unordered=unordered) for key, item in value.items()}
    if isinstance(value, list):
        items = [_plain(item, unordered=unordered) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if unordered else items
    return value


def _key(key: object) -> str:
    return key if isinstance(key, str) else json.dumps(key)


def ask_opa(case: Case, opa: Path) -> Wanted:
    """What OPA makes of a case where a builtin's error is undefined, as it is in a server.

    Raises:
        CalledProcessError: OPA did not run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for module in case.bundle.modules:
            (folder / module.file).write_text(module.text, encoding="utf-8")
        (folder / "data.json").write_text(json.dumps(case.bundle.data), encoding="utf-8")
        query = "data." + case.decision.replace("/", ".")
        language = "--v1-compatible" if case.rego_version else "--v0-compatible"
        files = ("--data", str(folder), "--stdin-input", "--format", "json", language)
        run = subprocess.run(
            (opa, "eval", *files, query), input=case.input_json, capture_output=True, text=True, check=False
        )
    document: dict[str, Any] = json.loads(run.stdout)
    if "errors" in document:
        return Wanted("error")
    if "result" not in document:
        return Wanted("undefined")
    return Wanted("value", document["result"][0]["expressions"][0]["value"])
