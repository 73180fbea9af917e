"""The embedded engine: regorus' interpreter behind the `Engine` Protocol. The only module that imports regorus.

Facts that shape it: objects belong to the thread that made them; an evaluation holds the GIL and cannot be stopped;
a panic is a Python `BaseException`; a rule made of several partial definitions can only be read through another rule;
an undefined rule reads as the text `<undefined>`; an error's text ends with a Rust backtrace.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson
import regorus

from mixer_py.errors import EvaluationError, Fault, PolicyLoadError, RequestParseError, UndefinedDecisionError
from mixer_py.policy.builtins.corrected import add_corrected
from mixer_py.policy.bundles.reading import Bundle, Module
from mixer_py.policy.engines.panics import PanicError, guarded
from mixer_py.policy.engines.parsing import new_engine, ready_modules
from mixer_py.policy.engines.protocol import Evaluation, EvaluationWatch
from mixer_py.policy.engines.tolerant import EXTENSION, Attempts, can_rewrite, functions_module, rewrite, trials_module
from mixer_py.policy.reference import reference
from mixer_py.policy.rego.calls import Functions, check_calls
from mixer_py.policy.rego.overlaps import check_overlaps, package_paths
from mixer_py.policy.rego.reads import ReadAnalysis, Reads

_PACKAGE: Final = "mixer_decision"
_FILE: Final = "mixer/decision.rego"
_READY: Final = f"data.{_PACKAGE}.ready"
_UNDEFINED: Final = '"<undefined>"'
_PLACE: Final = re.compile(r"^--> (?P<file>.*):(?P<line>\d+):(?P<column>\d+)$", re.MULTILINE)
_MESSAGE = re.compile(r"^error: (?P<message>.*)$", re.MULTILINE)


def _text(error: BaseException) -> str:
    return str(error).partition("\nStack backtrace:")[0].strip()


def engine_fault(error: BaseException, file: str = "") -> Fault:
    """The fault that an engine's error tells of, without its backtrace and its drawing of the source."""
    text = _text(error)
    place, message = _PLACE.search(text), _MESSAGE.search(text)
    if place is None or place["file"].startswith(_FILE):
        return Fault(message["message"] if message else text, file)
    return Fault(message["message"] if message else text, place["file"], int(place["line"]))


class EmbeddedEngine:
    """Evaluates decisions in this process. Use it only from the thread that made it."""

    tier = "interpreter"

    def __init__(self, bundle: Bundle, decisions: Sequence[str], watch: EvaluationWatch) -> None:
        """Parse and prepare the bundle's modules.

        Args:
            bundle: modules and data.
            decisions: paths of the rules that will be evaluated.
            watch: told of every evaluation.

        Raises:
            PolicyLoadError: a module cannot be parsed or compiled, or calls what the engine lacks.
        """
        self._rules = {decision: _value_rule(index) for index, decision in enumerate(decisions)}
        self._watch = watch
        with_data = _load_data(bundle)
        self._pristine = _add_modules(with_data.clone(), ready_modules(bundle.modules), decisions)
        trees: list[Any] = orjson.loads(self._pristine.get_ast_as_json())
        faults = check_calls(trees) + check_overlaps(trees, bundle.data_at(package_paths(trees)))
        if faults:
            raise PolicyLoadError(faults)
        analysis = ReadAnalysis(trees)
        self._reads = {decision: analysis.reads(decision) for decision in decisions}
        _try_without_input(self._pristine, self._rules.values())
        self._engine = self._pristine.clone()
        self._pristine_tolerant: Any = _make_tolerant(with_data, trees, decisions)
        self._tolerant: Any = self._pristine_tolerant

    def reads(self, decision: str) -> Reads:
        """See `Engine.reads`."""
        return self._reads[decision]

    def describe(self) -> dict[str, Any]:
        """See `Engine.describe`."""
        return {
            "packages": sorted({name for name in self._pristine.get_packages() if name != f"data.{_PACKAGE}"}),
            "builtin_errors": "failure" if self._tolerant is None else "undefined",
        }

    async def evaluate(self, decision: str, input_json: str) -> Evaluation:
        """See `Engine.evaluate`."""
        rule = self._rules[decision]
        self._watch.begin()
        try:
            text = self._evaluate(rule, input_json)
        finally:
            self._watch.end()
        if text == _UNDEFINED:
            raise UndefinedDecisionError("the decision is undefined for this request")
        value: list[object] = orjson.loads(text)
        return Evaluation(value[0], self.tier)

    def _evaluate(self, rule: str, input_json: str) -> str:
        try:
            self._engine.set_input_json(input_json)
        except RuntimeError as error:
            raise RequestParseError(f"the engine cannot read the request: {_text(error)}") from None
        try:
            text: str = guarded(self._engine.eval_rule_as_json, rule)
        except PanicError as error:
            self._engine = self._pristine.clone()  # what a panic leaves behind is not to be trusted
            raise EvaluationError(f"the engine panicked: {_text(error)}") from None
        except RuntimeError as error:
            text = self._evaluate_tolerant(rule, input_json, error)
        return text

    def _evaluate_tolerant(self, rule: str, input_json: str, failure: RuntimeError) -> str:
        """Evaluate again after a failure, with builtins' errors undefined."""
        engine = self._tolerant
        if engine is None:
            raise EvaluationError(str(engine_fault(failure))) from None
        try:
            engine.set_input_json(input_json)
            text: str = guarded(engine.eval_rule_as_json, rule)
        except PanicError as error:
            self._tolerant = self._pristine_tolerant.clone()
            raise EvaluationError(f"the engine panicked: {_text(error)}") from None
        except RuntimeError as error:
            _, panicked, message = str(engine_fault(error)).rpartition(f"{PanicError.__name__}: ")
            raise EvaluationError(f"the engine panicked: {message}" if panicked else message) from None
        return text


def _value_rule(index: int) -> str:
    return f"data.{_PACKAGE}.value_{index}"


def _load_data(bundle: Bundle) -> Any:  # noqa: ANN401 (regorus has no types)
    engine = new_engine()
    add_corrected(engine)
    try:
        for document in bundle.documents:  # as it was written: numbers stay exact, and nothing is parsed twice
            engine.add_data_json(document.text.decode())
        if bundle.data:
            engine.add_data_json(orjson.dumps(bundle.data).decode())
    except (RuntimeError, TypeError) as error:
        raise PolicyLoadError([Fault(f"the data documents cannot be loaded: {_text(error)}")]) from None
    return engine


def _add_modules(engine: Any, modules: Sequence[Module], decisions: Sequence[str]) -> Any:  # noqa: ANN401 (regorus has no types)
    """Add modules to an engine and prepare it, so that unsafe variables and the like are found now."""
    faults = [fault for module in modules if (fault := _add_module(engine, module.file, module.text)) is not None]
    # The value is wrapped in an array, so that a policy's own text cannot look like an undefined one.
    values = "".join(f"value_{index} := [{reference(decision)}]\n" for index, decision in enumerate(decisions))
    own = _add_module(engine, _FILE, f"package {_PACKAGE}\nimport rego.v1\n{values}ready := true\n")
    if own is not None:
        faults.append(own)
    if not faults:
        engine.set_input_json("{}")
        try:
            guarded(engine.eval_rule_as_json, _READY)
        except RuntimeError as error:
            faults.append(engine_fault(error))
    if faults:
        raise PolicyLoadError(faults)
    return engine


def _add_module(engine: Any, file: str, text: str) -> Fault | None:  # noqa: ANN401 (regorus has no types)
    try:
        guarded(engine.add_policy, file, text)
    except RuntimeError as error:
        return engine_fault(error, file)
    return None


def _try_without_input(engine: Any, rules: Iterable[str]) -> None:  # noqa: ANN401 (regorus has no types)
    """Evaluate once with an empty input, because the engine finds a recursion only when it runs into it.

    Any other error may be that of an empty input, which no request is, and counts for nothing.
    """
    for rule in rules:
        try:
            guarded(engine.eval_rule_as_json, rule)
        except RuntimeError as error:
            fault = engine_fault(error)
            if "recursion" in fault.message or "cyclic" in fault.message:
                raise PolicyLoadError([fault]) from None


def _make_tolerant(with_data: Any, trees: list[Any], decisions: Sequence[str]) -> Any:  # noqa: ANN401 (regorus has no types)
    """The engine in which a builtin's error is undefined; None for policies that cannot be written that way."""
    if not can_rewrite(trees):
        return None
    own = [tree for tree in trees if tree["source"]["file"] != _FILE]
    functions = Functions(trees)
    trials = regorus.Engine()
    add_corrected(trials)
    trials.add_policy(f"{_FILE}#trials", trials_module())
    engine = with_data.clone()
    engine.add_extension(EXTENSION, 2, Attempts(trials))
    try:
        modules = [Module(tree["source"]["file"], rewrite(tree, functions)) for tree in own]
        return _add_modules(engine, [*modules, Module(f"{_FILE}#attempts", functions_module())], decisions)
    except (PolicyLoadError, ValueError):
        return None
