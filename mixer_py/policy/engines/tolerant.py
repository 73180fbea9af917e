"""Make a builtin's error undefined, as OPA does, in an engine that only knows how to fail.

regorus' interpreter ends an evaluation when a builtin meets a value it cannot work on: `startswith` of a number that a
caller put into a JSON body, `base64.decode` of a token that is none. In OPA such an expression is undefined, so that a
default denies. An evaluation that fails is therefore repeated once in a second engine whose modules are these: each
call, operator and `some … in` that can fail is a function that tries it in an engine of its own and is undefined when
that fails. It costs several times an evaluation and only requests that made one fail pay it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from mixer_py.policy.builtins.table import SUPPORTED
from mixer_py.policy.rego.calls import Functions, find_calls
from mixer_py.policy.rego.panics import PanicError, guarded
from mixer_py.policy.rego.trees import modifiers_below, objects_below, ref_path, span_of

PACKAGE: Final = "mixer_attempts"
EXTENSION: Final = "mixer.attempt"
TRIALS_PACKAGE: Final = "mixer_trials"

_LEFT_ALONE = frozenset(
    """
    is_array is_boolean is_null is_number is_object is_set is_string json.marshal opa.runtime print rand.intn
    time.now_ns trace type_name uuid.rfc4122 walk
    """.split()  # noqa: SIM905 (a table of words reads better than a list of literals)
)
"""These cannot fail on a caller's values, or mean something only where they stand."""

_DIRECT: Final = {
    "builtin_count": ("is_array(a0)", "is_object(a0)", "is_set(a0)"),
    "builtin_max": ("is_array(a0)", "is_set(a0)"),
    "builtin_min": ("is_array(a0)", "is_set(a0)"),
    "builtin_object_get": ("is_object(a0)",),
    "builtin_sort": ("is_array(a0)", "is_set(a0)"),
    "operator_and": ("is_set(a0); is_set(a1)",),
    "operator_or": ("is_set(a0); is_set(a1)",),
    "operator_sub": ("is_set(a0); is_set(a1)",),
}
"""Conditions under which these cannot fail, and so need no attempt: Python could not be handed a set of objects."""

_OPERATORS: Final = {
    "Add": ("operator_add", "+"),
    "Sub": ("operator_sub", "-"),
    "Mul": ("operator_mul", "*"),
    "Div": ("operator_div", "/"),
    "Mod": ("operator_mod", "%"),
    "Intersection": ("operator_and", "&"),
    "Union": ("operator_or", "|"),
}
_COLLECTION: Final = "collection"
_LITERALS: Final = frozenset({"Array", "Object", "Set"})
"""These are collections, whatever is in them; and of an object's text the engine tells a wrong beginning."""
_INPUT: Final = re.compile(r"input\[(\d)\]")
_BEFORE_OPERATOR = re.compile(rb"(?:[\s)]|#[^\n]*\n)*")

Edit = tuple[int, int, int, str]
"""Start, order among edits that start there, end, and the text to put in their place; in bytes."""


def _function_name(builtin: str) -> str:
    return "builtin_" + builtin.replace(".", "_")


def _attempts() -> Iterator[tuple[str, int, str]]:
    """Name, number of arguments and expression over `input` of everything that is tried."""
    for name, arity in SUPPORTED.items():
        if name not in _LEFT_ALONE:
            arguments = ", ".join(f"input[{index}]" for index in range(arity))
            yield _function_name(name), arity, f"{name}({arguments})"
    for function, operator in _OPERATORS.values():
        yield function, 2, f"input[0] {operator} input[1]"


def functions_module() -> str:
    """The module of functions that rewritten modules call."""
    lines = [f"package {PACKAGE}", "import rego.v1"]
    for name, arity, expression in _attempts():
        arguments = ", ".join(f"a{index}" for index in range(arity))
        attempt = f'r[0] if {{ r := {EXTENSION}("{name}", [{arguments}]) }}'
        value = _INPUT.sub(r"a\1", expression)
        direct = [f"{value} if {{ {condition} }}" for condition in _DIRECT.get(name, ())]
        lines.append(f"{name}({arguments}) := {' else := '.join([*direct, attempt])}")
    lines.extend(f"{_COLLECTION}(a) := a if is_{kind}(a)" for kind in ("array", "object", "set"))
    return "\n".join(lines)


def trials_module() -> str:
    """The module in which one attempt is evaluated, its arguments as `input`."""
    lines = [f"package {TRIALS_PACKAGE}", "import rego.v1"]
    lines.extend(f"{name} := [({expression})]" for name, _, expression in _attempts())
    return "\n".join(lines)


class Attempts:
    """The extension that tries one call, in an engine of its own."""

    __slots__ = ("_engine", "_pristine")

    def __init__(self, pristine: Any) -> None:  # noqa: ANN401 (regorus has no types)
        """Takes an engine with `trials_module`."""
        self._pristine = pristine
        self._engine = pristine.clone()

    def __call__(self, name: str, arguments: list[object]) -> list[object]:
        """The call's value in a list; an empty list when it is undefined or fails.

        Raises:
            PanicError: it made the engine panic, which must not look like an undefined value.
        """
        try:
            self._engine.set_input(arguments)
            result: list[object] | None = guarded(self._engine.eval_rule, f"data.{TRIALS_PACKAGE}.{name}")
        except PanicError:
            self._engine = self._pristine.clone()
            raise
        except RuntimeError:
            return []
        return [] if result is None else result


def can_rewrite(trees: Sequence[Any]) -> bool:
    """Whether no module replaces a function by `with`: a rewritten call would not see that."""
    return all(path is not None and path[0] in {"input", "data"} for path in _with_targets(trees))


def rewrite(tree: Any, functions: Functions) -> str:  # noqa: ANN401 (the engine's syntax tree, which is JSON)
    """A module's text with everything that can fail replaced; lines stay where they are."""
    text = tree["source"]["contents"].encode()
    edits: list[Edit] = []
    for call in find_calls(tree["ast"]["rules"]):
        name = functions.builtin(call, tree)
        if name is not None and name not in _LEFT_ALONE:
            edits.append((call.start, 0, call.end, f"data.{PACKAGE}.{_function_name(name)}"))
    for kind, node in _nodes(tree["ast"]["rules"]):
        if kind in {"ArithExpr", "BinExpr"}:
            edits.extend(_operator_edits(node, text))
        elif kind == "SomeIn" and not _LITERALS & node["collection"].keys():
            span = span_of(node["collection"])
            edits.extend(_wrap(span["start"], span["end"], _COLLECTION))
    pieces, position = [], 0
    for start, _, end, replacement in sorted(edits):
        pieces += [text[position:start], replacement.encode()]
        position = end
    return b"".join([*pieces, text[position:]]).decode()


def _operator_edits(node: Any, text: bytes) -> Iterator[Edit]:  # noqa: ANN401 (JSON)
    function, operator = _OPERATORS[node["op"]]
    yield from _wrap(node["span"]["start"], node["span"]["end"], function)
    before = _BEFORE_OPERATOR.match(text, span_of(node["lhs"])["end"])
    place = before.end() if before is not None else -1
    if text[place : place + 1] != operator.encode():
        raise ValueError(f"no operator {operator} in line {node['span']['line']}")
    yield place, 0, place + 1, ","


def _wrap(start: int, end: int, function: str) -> Iterator[Edit]:
    # Of two that start together the longer is outside, and its text comes first: before any call's new name.
    yield start, start - end, start, f"data.{PACKAGE}.{function}("
    yield end, 0, end, ")"


def _nodes(node: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 (JSON)
    """All objects below a node, with the key they stand under."""
    return ((key, value) for found in objects_below(node) for key, value in found.items() if isinstance(value, dict))


def _with_targets(trees: Sequence[Any]) -> Iterator[tuple[str, ...] | None]:
    return (ref_path(modifier["refr"]) for modifier in modifiers_below(*(tree["ast"]["rules"] for tree in trees)))
