"""The embedded engine in its tiers: which tier a decision has, what is repeated and counted, what is logged."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from mixer_py.errors import EvaluationError, RequestParseError, UndefinedDecisionError
from mixer_py.instruments import Registry
from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.bundles.reading import read_bundles
from mixer_py.policy.engines.embedded import EmbeddedEngine


class Got(NamedTuple):
    """What an evaluation gave."""

    value: object
    tier: str


class Watch:
    """Counts what begins and what ends."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    def begin(self) -> None:
        self.begun += 1

    def end(self) -> None:
        self.ended += 1


class Made:
    """An engine with what it was made with."""

    def __init__(self, text: str, *decisions: str, data: Mapping[str, object] | None = None) -> None:
        self.watch, self.registry = Watch(), Registry()
        self.decisions = [f"p/{name}" for name in decisions or ("value",)]
        modules = (Module("p.rego", f"package p\n{text}\n"),)
        self.engine = EmbeddedEngine(Bundle(modules, data or {}, (), ""), self.decisions, self.watch, self.registry)

    def evaluate(self, document: object, decision: str = "p/value") -> Got:
        evaluation = asyncio.run(self.engine.evaluate(decision, json.dumps(document)))
        return Got(evaluation.value, evaluation.tier)

    def repeated(self, reason: str) -> float:
        return self.registry.counter("mixer_evaluations_repeated_total", "", ("reason",)).labels(reason).value


def test_the_sample_in_the_tutorials_form_is_evaluated_by_the_machine() -> None:
    """Partial object rules with constant keys, which the machine itself refuses."""
    sample = Path(__file__).parents[2] / "policies" / "rbac" / "bundle"
    engine = EmbeddedEngine(read_bundles([str(sample)]), ["envoy/authz/result"], Watch())
    assert engine.describe()["tiers"] == {"envoy/authz/result": {"tier": "rvm", "why": ""}}


def test_each_decision_has_its_own_tier() -> None:
    made = Made("fast := input.a\nslow := x if x := input.a with input.a as 2", "fast", "slow")
    assert made.evaluate({"a": 1}, "p/fast") == Got(1, "rvm")
    assert made.evaluate({"a": 1}, "p/slow") == Got(2, "interpreter")
    assert made.engine.tier == made.engine.tier_of("p/fast") == "rvm"
    assert made.engine.tier_of("p/slow") == "interpreter"
    tiers = made.engine.describe()["tiers"]
    assert tiers["p/fast"] == {"tier": "rvm", "why": ""}
    assert tiers["p/slow"] == {"tier": "interpreter", "why": "p.rego:3: the rule data.p.slow uses `with`"}
    assert (made.watch.begun, made.watch.ended) == (2, 2)


def test_a_decision_too_large_for_the_machine_does_not_keep_the_others_off() -> None:
    """Each has a program of its own then, over the same data."""
    large = "\n".join(f"large if {{ input.a == {n}; input.b == {n} }}" for n in range(6000))
    made = Made(f"{large}\none := data.d\ntwo := [data.d, input.a]", "large", "one", "two", data={"d": "data"})
    assert [made.engine.tier_of(decision) for decision in made.decisions] == ["interpreter", "rvm", "rvm"]
    for _ in range(2):
        assert made.evaluate({"a": 1}, "p/one") == Got("data", "rvm")
        assert made.evaluate({"a": 1}, "p/two") == Got(["data", 1], "rvm")


def test_beyond_the_limit_of_instructions_the_interpreter_answers() -> None:
    made = Made("value := count([x | some x in numbers.range(1, input.n); x > 1])")
    assert made.evaluate({"n": 10}) == Got(9, "rvm")
    assert made.repeated("instruction_limit") == 0
    assert made.evaluate({"n": 30000}) == Got(29999, "interpreter")
    assert made.repeated("instruction_limit") == 1
    assert made.evaluate({"n": 10}) == Got(9, "rvm")


def test_a_decision_that_the_machine_never_finishes_is_tried_there_less_and_less() -> None:
    made = Made("value := count([x | some x in numbers.range(1, input.n); x > 1])")
    for _ in range(40):
        assert made.evaluate({"n": 20000}) == Got(19999, "interpreter")
    assert made.repeated("instruction_limit") == 7, "after 0, 0, 1, 2, 4, 8 and 16 calls that were not tried"
    for _ in range(40):
        evaluation = made.evaluate({"n": 10})
    assert evaluation == Got(9, "rvm"), "once it finishes it is tried each time again"
    assert made.evaluate({"n": 20000}).tier == "interpreter"
    assert made.evaluate({"n": 10}).tier == "rvm"


def test_a_conflict_is_an_error_as_in_the_interpreter() -> None:
    made = Made("value := 1 if input.a\nvalue := 2 if input.b")
    assert made.evaluate({"a": True}) == Got(1, "rvm")
    with pytest.raises(EvaluationError, match="conflict"):
        made.evaluate({"a": True, "b": True})
    assert made.watch.begun == made.watch.ended == 2


def test_a_builtins_error_is_undefined_without_a_repetition() -> None:
    made = Made('default value := "no"\nvalue := base64.decode(input.a)')
    assert made.evaluate({"a": "%"}) == Got("no", "rvm")
    assert made.repeated("builtin_error") == 0


def test_in_the_interpreter_a_builtins_error_is_counted() -> None:
    made = Made('default value := "no"\nvalue := x if x := base64.decode(input.a) with input.b as 1')
    assert made.evaluate({"a": "%"}) == Got("no", "interpreter")
    assert made.repeated("builtin_error") == 1


def test_undefined_and_unreadable_are_the_same_in_both_tiers() -> None:
    for text in ("value := input.a", "value := x if x := input.a with input.b as 1"):
        made = Made(text)
        with pytest.raises(UndefinedDecisionError):
            made.evaluate({})
        deep = "[" * 200 + "]" * 200
        with pytest.raises(RequestParseError):
            asyncio.run(made.engine.evaluate("p/value", f'{{"a": {deep}}}'))
        assert made.evaluate({"a": 1}).value == 1


def test_a_panic_costs_one_call(capfd: pytest.CaptureFixture[str]) -> None:
    made = Made("value := [time.parse_ns(input.q, input.q), data.d]", data={"d": 1})
    wanted = Got([1136160000000000000, 1], "rvm")
    assert made.evaluate({"q": "2006-01-02"}) == wanted
    for _ in range(2):
        with pytest.raises(EvaluationError, match="panicked"):
            made.evaluate({"q": "é"})
        assert made.evaluate({"q": "2006-01-02"}) == wanted
    capfd.readouterr()  # the engine writes of a panic to the process's standard error


def test_what_a_policy_prints_goes_to_the_log() -> None:
    made = Made('value := 1 if {\n  print("met", input.zz, {"a": 1})\n  print("twice")\n}')
    assert made.engine.tier == "interpreter"
    with capture_logs() as logs:
        made.evaluate({})
    assert logs == [
        {"event": "print", "log_level": "info", "place": "p.rego:3", "text": 'met <undefined> {"a": 1}'},
        {"event": "print", "log_level": "info", "place": "p.rego:4", "text": "twice"},
    ]


def test_a_repeated_evaluation_prints_once() -> None:
    made = Made('default value := 0\nvalue := x if {\n  print("before")\n  x := base64.decode(input.a)\n}')
    with capture_logs() as logs:
        assert made.evaluate({"a": "%"}).value == 0
    assert [entry["text"] for entry in logs] == ["before"]


def test_loading_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_logs() as logs:
        Made('value := 1 if print("loading")')
    assert logs == []
    assert capfd.readouterr().err == ""


def test_an_engine_that_nobody_holds_is_freed_without_the_collector() -> None:
    """Which may run in a thread where no engine can be freed."""
    assert not gc.isenabled()
    made = Made("slow := x if x := input.a with input.a as 2\nuses := slow\nset contains slow", "slow", "uses", "set")
    assert {made.engine.tier_of(decision) for decision in made.decisions} == {"interpreter"}
    engine = weakref.ref(made.engine)
    del made
    assert engine() is None
