"""The engine's interpreter: evaluates everything that loads, and evaluates again where a builtin failed.

Facts that shape it: objects belong to the thread that made them; an evaluation holds the GIL and cannot be stopped;
a panic is a Python `BaseException`; a rule made of several partial definitions can only be read through another rule;
an undefined rule reads as the text `<undefined>`; an error's text ends with a Rust backtrace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import orjson
import structlog

from mixer_py.errors import EvaluationError, Fault, PolicyLoadError, RequestParseError
from mixer_py.policy.builtins.corrected import add_corrected
from mixer_py.policy.builtins.cryptographic import load_for
from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.engines.parsing import ready_modules
from mixer_py.policy.engines.tolerant import EXTENSION, Attempts, can_rewrite, functions_module, rewrite, trials_module
from mixer_py.policy.reference import reference
from mixer_py.policy.rego.calls import Functions, check_calls, find_calls
from mixer_py.policy.rego.definitions import check_definitions
from mixer_py.policy.rego.faults import OWN_FILES, engine_fault, error_text
from mixer_py.policy.rego.overlaps import check_overlaps, package_paths
from mixer_py.policy.rego.panics import PanicError, guarded
from mixer_py.policy.rego.parser import new_engine
from mixer_py.policy.rego.recursion import check_recursion
from mixer_py.policy.rego.refusals import check_refusals

PACKAGE: Final = "mixer_decision"
BUILTIN_ERROR: Final = "builtin_error"

_FILE: Final = f"{OWN_FILES}decision.rego"
_READY: Final = f"data.{PACKAGE}.ready"


class Interpreter:
    """Evaluates all decisions. Belongs to the thread that made it.

    Attributes:
        trees: the syntax trees of the modules that it compiled.
        tolerates: whether a builtin's error is undefined; else it fails the evaluation.
    """

    def __init__(self, bundle: Bundle, decisions: Sequence[str], count: Callable[[str], None]) -> None:
        """Parse and prepare the bundle's modules.

        Args:
            bundle: modules and data.
            decisions: paths of the rules that will be evaluated.
            count: told the reason of every evaluation that is repeated.

        Raises:
            PolicyLoadError: a module cannot be parsed or compiled, or calls what the engine lacks.
        """
        self._rules = {decision: _value_rule(index) for index, decision in enumerate(decisions)}
        self._count = count
        self._data = _load_data(bundle)
        pristine = _add_modules(self._data.clone(), ready_modules(bundle.modules), decisions)
        trees: list[Any] = orjson.loads(pristine.get_ast_as_json())
        faults = [
            *check_calls(trees),
            *check_definitions(trees),
            *check_recursion(trees),
            *check_refusals(trees),
            *check_overlaps(trees, bundle.data_at(package_paths(trees))),
        ]
        if faults:
            raise PolicyLoadError(faults)
        self.trees = [tree for tree in trees if tree["source"]["file"] != _FILE]
        functions = Functions(trees)
        called = {functions.builtin(call, tree) for tree in trees for call in find_calls(tree["ast"]["rules"])}
        self._prints = "print" in called
        load_for(called)
        self._log = structlog.get_logger("policy")
        self._pristine = pristine
        pristine.set_gather_prints(True)
        _try_without_input(pristine, self._rules.values())
        pristine.take_prints()
        self._engine = pristine.clone()
        self._pristine_tolerant: Any = _make_tolerant(self._data, self.trees, functions, decisions)
        self._tolerant: Any = self._pristine_tolerant
        self._gather()

    @property
    def tolerates(self) -> bool:
        """See the class."""
        return self._tolerant is not None

    def packages(self) -> list[str]:
        """Names of the policies' packages, with `data`, sorted."""
        return sorted({name for name in self._pristine.get_packages() if name != f"data.{PACKAGE}"})

    def read_data(self, names: Sequence[str]) -> str:
        """The base document as JSON, as far as it is below these names."""
        engine = self._data.clone()
        parts = ", ".join(f"{{{text}: x | x := data[{text}]}}" for text in map(_quoted, names))
        engine.add_policy(_FILE, f"package {PACKAGE}\nimport rego.v1\npicked := object.union_n([{parts}])\n")
        engine.set_input_json("{}")
        text: str = engine.eval_rule_as_json(f"data.{PACKAGE}.picked")
        return text

    def evaluate(self, decision: str, input_json: str) -> str:
        """The decision's value in an array, as JSON; `"<undefined>"` for none.

        Raises:
            RequestParseError: the input document cannot be read.
            EvaluationError: the policy failed, or the engine panicked.
        """
        rule = self._rules[decision]
        try:
            self._engine.set_input_json(input_json)
        except RuntimeError as error:
            raise RequestParseError(f"the engine cannot read the request: {error_text(error)}") from None
        try:
            text: str = guarded(self._engine.eval_rule_as_json, rule)
        except PanicError as error:
            self._engine = self._pristine.clone()  # what a panic leaves behind is not to be trusted
            self._gather()
            raise EvaluationError(f"the engine panicked: {error_text(error)}") from None
        except RuntimeError as error:
            text = self._evaluate_tolerant(rule, input_json, error)
        else:
            if self._prints:
                self._show(self._engine.take_prints())
        return text

    def _evaluate_tolerant(self, rule: str, input_json: str, failure: RuntimeError) -> str:
        """Evaluate again after a failure, with builtins' errors undefined."""
        engine = self._tolerant
        prints = self._engine.take_prints() if self._prints else []
        if engine is None:
            self._show(prints)
            raise EvaluationError(str(engine_fault(failure))) from None
        self._count(BUILTIN_ERROR)
        try:
            engine.set_input_json(input_json)
            text: str = guarded(engine.eval_rule_as_json, rule)
        except PanicError as error:
            self._tolerant = self._pristine_tolerant.clone()
            self._gather()
            raise EvaluationError(f"the engine panicked: {error_text(error)}") from None
        except RuntimeError as error:
            _, panicked, message = str(engine_fault(error)).rpartition(f"{PanicError.__name__}: ")
            raise EvaluationError(f"the engine panicked: {message}" if panicked else message) from None
        finally:
            if self._prints:
                self._show(engine.take_prints())
        return text

    def _gather(self) -> None:
        """Keep what policies print for the log; without this the engine writes it to stderr."""
        if self._prints:
            for engine in (self._engine, self._tolerant):
                if engine is not None:
                    engine.set_gather_prints(True)

    def _show(self, prints: Iterable[str]) -> None:
        for line in prints:
            place, _, text = line.partition(": ")
            self._log.info("print", place=place, text=text.rstrip("\n"))


def _quoted(name: str) -> str:
    return orjson.dumps(name).decode()


def _value_rule(index: int) -> str:
    return f"data.{PACKAGE}.value_{index}"


def _load_data(bundle: Bundle) -> Any:  # noqa: ANN401 (regorus has no types)
    engine = new_engine()
    add_corrected(engine)
    try:
        for document in bundle.documents:  # as it was written: numbers stay exact, and nothing is parsed twice
            engine.add_data_json(document.text.decode())
        if bundle.data:
            engine.add_data_json(orjson.dumps(bundle.data).decode())
    except (RuntimeError, TypeError) as error:
        raise PolicyLoadError([Fault(f"the data documents cannot be loaded: {error_text(error)}")]) from None
    return engine


def _add_modules(engine: Any, modules: Sequence[Module], decisions: Sequence[str]) -> Any:  # noqa: ANN401 (regorus has no types)
    """Add modules to an engine and prepare it, so that unsafe variables and the like are found now."""
    faults = [fault for module in modules if (fault := _add_module(engine, module.file, module.text)) is not None]
    # The value is wrapped in an array, so that a policy's own text cannot look like an undefined one.
    values = "".join(f"value_{index} := [{reference(decision)}]\n" for index, decision in enumerate(decisions))
    own = _add_module(engine, _FILE, f"package {PACKAGE}\nimport rego.v1\n{values}ready := true\n")
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


def _make_tolerant(with_data: Any, trees: list[Any], functions: Functions, decisions: Sequence[str]) -> Any:  # noqa: ANN401 (regorus has no types)
    """The engine in which a builtin's error is undefined; None for policies that cannot be written that way."""
    if not can_rewrite(trees):
        return None
    trials = new_engine()
    add_corrected(trials)
    trials.add_policy(f"{_FILE}#trials", trials_module())
    engine = with_data.clone()
    engine.add_extension(EXTENSION, 2, Attempts(trials))
    try:
        modules = [Module(tree["source"]["file"], rewrite(tree, functions)) for tree in trees]
        return _add_modules(engine, [*modules, Module(f"{_FILE}#attempts", functions_module())], decisions)
    except (PolicyLoadError, ValueError):
        return None
