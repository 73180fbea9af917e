"""An interpreter whose evaluations can be watched: marks, prints, covered lines. Slower than the server's engines.

It answers as the embedded engine's interpreter does: the same corrected builtins, and a builtin's error is undefined.
Use it only from the thread that made it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.builtins.corrected import add_corrected
from mixer_py.policy.bundles.bundle import Module
from mixer_py.policy.engines.parsing import ready_modules
from mixer_py.policy.engines.tolerant import EXTENSION, Attempts, functions_module, rewrite, trials_module
from mixer_py.policy.rego.calls import Call, Functions
from mixer_py.policy.rego.faults import engine_fault
from mixer_py.policy.rego.panics import PanicError, guarded
from mixer_py.policy.rego.parser import new_engine
from mixer_py.policy.rego.trees import modifiers_below, ref_path

Extensions = Mapping[str, tuple[int, Callable[..., object]]]
"""Number of arguments and function by name."""

_PACKAGE: Final = "mixer_questions"
_FILE: Final = "mixer/questions.rego"


@dataclass(frozen=True, slots=True)
class Watched:
    """What one evaluation came to.

    Attributes:
        value: of the reference; None when it has none.
        defined: whether it has one.
        error: why the evaluation failed; empty when it did not.
        prints: what `print` was given, each with file and line.
    """

    value: object
    defined: bool
    error: str
    prints: tuple[str, ...]


class WatchedInterpreter:
    """Evaluates the references it was made for."""

    def __init__(
        self,
        modules: Sequence[Module],
        data: Mapping[str, object],
        questions: Sequence[str],
        extensions: Extensions,
        *,
        coverage: bool = False,
    ) -> None:
        """Compile modules.

        Args:
            modules: of the policies.
            data: the base document.
            questions: references, as `data.envoy.authz.allow`.
            extensions: functions that the modules may call besides the builtins.
            coverage: remember covered lines.

        Raises:
            PolicyLoadError: a module cannot be parsed or compiled.
        """
        self._rules = {question: f"data.{_PACKAGE}.value_{index}" for index, question in enumerate(questions)}
        own = _own_module(questions)
        plain = _engine(data, extensions)
        _add(plain, [*modules, own])
        self._trees: list[Any] = [tree for tree in orjson.loads(plain.get_ast_as_json()) if tree_file(tree) != _FILE]
        self._pristine = [plain]
        tolerant = _tolerant(self._trees, data, extensions, own)
        if tolerant is not None:
            self._pristine.append(tolerant)
        self._engines = []
        for engine in self._pristine:
            engine.set_gather_prints(True)
            engine.set_enable_coverage(coverage)
            self._engines.append(engine.clone())

    @property
    def trees(self) -> list[Any]:
        """The syntax trees of the modules."""
        return self._trees

    def evaluate(
        self, question: str, input_json: str | None = None, before: Callable[[], None] = lambda: None
    ) -> Watched:
        """What a reference is.

        Args:
            question: one of those that the interpreter was made for.
            input_json: the input document; None leaves `input` what it was, undefined at first.
            before: called before each of the one or two evaluations that this takes.
        """
        rule = self._rules[question]
        watched = Watched(None, defined=False, error="", prints=())
        for index, engine in enumerate(self._engines):
            before()
            try:
                if input_json is not None:
                    engine.set_input_json(input_json)
                text: str = guarded(engine.eval_rule_as_json, rule)
            except PanicError as error:
                self._engines[index] = self._pristine[index].clone()
                return Watched(None, defined=False, error=f"the engine panicked: {_message(error)}", prints=())
            except RuntimeError as error:
                watched = Watched(None, defined=False, error=_message(error), prints=tuple(engine.take_prints()))
            else:
                value: list[object] | str = orjson.loads(text)
                prints = tuple(engine.take_prints())
                if isinstance(value, str):
                    return Watched(None, defined=False, error="", prints=prints)
                return Watched(value[0], defined=True, error="", prints=prints)
        return watched

    def covered(self) -> dict[str, tuple[set[int], set[int]]]:
        """Lines that were evaluated and lines that were not, by file."""
        files: dict[str, tuple[set[int], set[int]]] = {}
        for engine in self._engines:
            report = orjson.loads(engine.get_coverage_report_as_json())
            for file in report["files"]:
                covered, missing = files.setdefault(file["path"], (set(), set()))
                covered.update(file["covered"])
                missing.update(file["not_covered"])
        return {file: (covered, missing - covered) for file, (covered, missing) in files.items()}


def tree_file(tree: Any) -> str:  # noqa: ANN401 (the engine's syntax tree, which is JSON)
    """Path of a tree's module."""
    return str(tree["source"]["file"])


def parse(modules: Sequence[Module]) -> list[Any]:
    """The syntax trees of modules.

    Raises:
        PolicyLoadError: with every module's fault.
    """
    engine = new_engine()
    _parse_into(engine, ready_modules(modules))
    trees: list[Any] = orjson.loads(engine.get_ast_as_json())
    return trees


def _message(error: RuntimeError) -> str:
    return str(engine_fault(error))


def _own_module(questions: Sequence[str]) -> Module:
    # The value is wrapped in an array, so that a policy's own text cannot look like an undefined one.
    values = "".join(f"value_{index} := [{question}]\n" for index, question in enumerate(questions))
    return Module(_FILE, f"package {_PACKAGE}\nimport rego.v1\n{values}ready := true\n")


def _engine(data: Mapping[str, object], extensions: Extensions) -> Any:  # noqa: ANN401 (regorus has no types)
    engine = new_engine()
    add_corrected(engine)
    for name, (arity, function) in extensions.items():
        engine.add_extension(name, arity, function)
    engine.add_data_json(orjson.dumps(data).decode())
    return engine


def _parse_into(engine: Any, modules: Sequence[Module]) -> None:  # noqa: ANN401 (regorus has no types)
    faults = []
    for module in modules:
        try:
            guarded(engine.add_policy, module.file, module.text)
        except RuntimeError as error:
            faults.append(engine_fault(error, module.file))
    if faults:
        raise PolicyLoadError(faults)


def _add(engine: Any, modules: Sequence[Module]) -> None:  # noqa: ANN401 (regorus has no types)
    _parse_into(engine, modules)
    try:
        guarded(engine.eval_rule_as_json, f"data.{_PACKAGE}.ready")
    except RuntimeError as error:
        raise PolicyLoadError([engine_fault(error)]) from None


def _tolerant(trees: Sequence[Any], data: Mapping[str, object], extensions: Extensions, own: Module) -> Any:  # noqa: ANN401 (regorus has no types)
    """The engine in which a builtin's error is undefined; None for modules that cannot be written that way."""
    functions = _Unmocked(trees, extensions)
    trials = new_engine()
    add_corrected(trials)
    trials.add_policy(f"{_FILE}#trials", trials_module())
    engine = _engine(data, {**extensions, EXTENSION: (2, Attempts(trials))})
    try:
        modules = [Module(tree_file(tree), rewrite(tree, functions)) for tree in trees]
        _add(engine, [*modules, Module(f"{_FILE}#attempts", functions_module()), own])
    except (PolicyLoadError, ValueError):
        return None
    return engine


class _Unmocked(Functions):
    """Functions of which those that a test replaces by `with`, and our own extensions, stay as they are written."""

    def __init__(self, trees: Sequence[Any], extensions: Extensions) -> None:
        super().__init__(trees)
        self._kept = {*extensions, *_replaced(trees)}

    def builtin(self, call: Call, tree: Any) -> str | None:  # noqa: ANN401 (JSON)
        name = super().builtin(call, tree)
        return None if name in self._kept else name


def _replaced(trees: Sequence[Any]) -> set[str]:
    """Names of the functions that stand after `with`."""
    targets = (ref_path(modifier["refr"]) for modifier in modifiers_below(*(tree["ast"]["rules"] for tree in trees)))
    return {".".join(path) for path in targets if path is not None}
