"""The embedded engine: regorus' interpreter behind the `Engine` Protocol. The only module that imports regorus.

Facts that shape it: objects belong to the thread that made them; an evaluation holds the GIL and cannot be stopped;
a panic is a Python `BaseException`; a rule made of several partial definitions can only be read through another rule;
an undefined rule reads as the text `<undefined>`; an error's text ends with a Rust backtrace.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson
import regorus

from mixer_py.errors import EvaluationError, Fault, PolicyLoadError, RequestParseError, UndefinedDecisionError
from mixer_py.policy.builtins import check_calls
from mixer_py.policy.bundles import Bundle

_PACKAGE: Final = "mixer_decision"
_FILE: Final = "mixer/decision.rego"
_RULE: Final = f"data.{_PACKAGE}.value"
_READY: Final = f"data.{_PACKAGE}.ready"
_UNDEFINED: Final = '"<undefined>"'
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYWORDS = frozenset(
    "as default else every false if import in contains not null package some true with input data".split()  # noqa: SIM905
)
_PLACE = re.compile(r"^--> (?P<file>.*):(?P<line>\d+):(?P<column>\d+)$", re.MULTILINE)
_MESSAGE = re.compile(r"^error: (?P<message>.*)$", re.MULTILINE)


def reference(decision: str) -> str:
    """The Rego reference of a decision path: `envoy/authz/allow` is `data.envoy.authz.allow`."""
    parts = decision.split("/")
    return "data" + "".join(
        f".{part}" if _IDENTIFIER.fullmatch(part) and part not in _KEYWORDS else f"[{orjson.dumps(part).decode()}]"
        for part in parts
    )


def _text(error: BaseException) -> str:
    return str(error).partition("\nStack backtrace:")[0].strip()


def engine_fault(error: BaseException, file: str = "") -> Fault:
    """The fault that an engine's error tells of, without its backtrace and its drawing of the source."""
    text = _text(error)
    place, message = _PLACE.search(text), _MESSAGE.search(text)
    if place is None or place["file"] == _FILE:
        return Fault(message["message"] if message else text, file)
    return Fault(message["message"] if message else text, place["file"], int(place["line"]))


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"


class EmbeddedEngine:
    """Evaluates a decision in this process. Use it only from the thread that made it."""

    tier = "interpreter"

    def __init__(self, bundle: Bundle, decision: str) -> None:
        """Parse and prepare the bundle's modules.

        Raises:
            PolicyLoadError: a module cannot be parsed or compiled.
        """
        self._pristine = _load(bundle, decision)
        faults = check_calls(self.syntax_tree())
        if faults:
            raise PolicyLoadError(faults)
        self._engine = self._pristine.clone()

    def syntax_tree(self) -> list[Any]:
        """The modules' syntax trees as regorus gives them."""
        trees: list[Any] = orjson.loads(self._pristine.get_ast_as_json())
        return trees

    def packages(self) -> list[str]:
        """Names of the packages, as `data.envoy.authz`."""
        return sorted({name for name in self._pristine.get_packages() if name != f"data.{_PACKAGE}"})

    def evaluate(self, input_json: str) -> object:
        """See `Engine.evaluate`."""
        engine = self._engine
        try:
            engine.set_input_json(input_json)
        except RuntimeError as error:
            raise RequestParseError(f"the engine cannot read the request: {_text(error)}") from None
        try:
            text: str = engine.eval_rule_as_json(_RULE)
        except RuntimeError as error:
            raise EvaluationError(str(engine_fault(error))) from None
        except BaseException as error:
            if not _is_panic(error):
                raise
            self._engine = self._pristine.clone()  # what a panic leaves behind is not to be trusted
            raise EvaluationError(f"the engine panicked: {_text(error)}") from None
        if text == _UNDEFINED:
            raise UndefinedDecisionError("the decision is undefined for this request")
        value: list[object] = orjson.loads(text)
        return value[0]


def _load(bundle: Bundle, decision: str) -> Any:  # noqa: ANN401 (regorus has no types)
    engine = regorus.Engine()
    faults: list[Fault] = []
    for module in bundle.modules:
        try:
            engine.add_policy(module.file, module.text)
        except BaseException as error:
            if not (isinstance(error, RuntimeError) or _is_panic(error)):
                raise
            faults.append(engine_fault(error, module.file))
    if faults:
        raise PolicyLoadError(faults)
    # The value is wrapped in an array, so that a policy's own text cannot look like an undefined one.
    engine.add_policy(_FILE, f"package {_PACKAGE}\nimport rego.v1\nvalue := [{reference(decision)}]\nready := true\n")
    try:
        engine.add_data_json(orjson.dumps(bundle.data).decode())
        engine.set_input_json("{}")
        engine.eval_rule_as_json(_READY)  # prepares all modules: unsafe variables and the like show here
    except BaseException as error:
        if not (isinstance(error, RuntimeError) or _is_panic(error)):
            raise
        raise PolicyLoadError([engine_fault(error)]) from None
    return engine
