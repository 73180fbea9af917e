"""The calls of a policy, and which policies the embedded engine must refuse at load because of them.

The engine itself finds a missing function only when an evaluation reaches it, which may be in a month; a caller would
get an error then. So calls are resolved here, from the syntax tree, by name, arity, file and line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from mixer_py.errors import Fault
from mixer_py.policy.builtins.table import ARGUMENTS, SUPPORTED, WAYS_OUT
from mixer_py.policy.rego.trees import objects_below, ref_path

_KINDS: Final = {
    "Number": "n",
    "String": "s",
    "RawString": "s",
    "Bool": "b",
    "Null": "z",
    "Array": "a",
    "ArrayCompr": "a",
    "Object": "o",
    "ObjectCompr": "o",
    "Set": "t",
    "SetCompr": "t",
}
_KIND_NAMES: Final = {
    "n": "a number",
    "s": "a string",
    "b": "a boolean",
    "z": "null",
    "a": "an array",
    "o": "an object",
    "t": "a set",
}
_UNKNOWN: Final = "x"


@dataclass(frozen=True, slots=True)
class Call:
    """A function call in a module.

    Attributes:
        path: the name's parts as written, `("io", "jwt", "decode")`.
        arguments: how many are given.
        line: 1-based line of the name.
        start: where the name starts in the module's UTF-8 text, in bytes.
        end: where it ends.
        kinds: what each argument is, by the letters of `builtins.table`; `x` where only an evaluation knows.
    """

    path: tuple[str, ...]
    arguments: int
    line: int
    start: int
    end: int
    kinds: tuple[str, ...]


def find_calls(node: Any) -> Iterator[Call]:  # noqa: ANN401 (a node of the engine's syntax tree, which is JSON)
    """All calls below a node, those in arguments of calls too."""
    return (found for call in call_nodes(node) if (found := _call(call)) is not None)


def call_nodes(node: Any) -> Iterator[Any]:  # noqa: ANN401 (JSON)
    """The nodes of all calls below a node."""
    for found in objects_below(node):
        call = found.get("Call")
        if isinstance(call, dict) and "fcn" in call:
            yield call


def _call(node: Any) -> Call | None:  # noqa: ANN401 (JSON)
    path = ref_path(node["fcn"])
    if path is None:
        return None
    (function,) = node["fcn"].values()
    span = function["span"]
    kinds = tuple(_KINDS.get(next(iter(parameter)), _UNKNOWN) for parameter in node["params"])
    return Call(path, len(kinds), span["line"], span["start"], span["end"], kinds)


class Functions:
    """Which function a call in a module means: one of the policies' own, or a builtin."""

    def __init__(self, trees: Sequence[Any]) -> None:
        """Learn the functions that `trees`, all modules' syntax trees, define."""
        self._own: dict[tuple[str, ...], int] = {}
        for tree in trees:
            module = tree["ast"]
            package = package_path(module)
            for rule in module["rules"]:
                path = _function_path(rule)
                if path is not None:
                    self._own[package + path] = _arity(rule)

    def names(self) -> Iterator[str]:
        """The functions that the policies define, by their full names."""
        return map(".".join, self._own)

    def builtin(self, call: Call, tree: Any) -> str | None:  # noqa: ANN401 (JSON)
        """Name of the builtin that a call in a module means; None when it means a function of the policies."""
        full = self._full(call, tree)
        return None if full in self._own else ".".join(full)

    def own(self, call: Call, tree: Any) -> tuple[str, int] | None:  # noqa: ANN401 (JSON)
        """Name and number of arguments of the policies' function that a call means; None when it means a builtin."""
        full = self._full(call, tree)
        arity = self._own.get(full)
        return None if arity is None else (".".join(full), arity)

    def _full(self, call: Call, tree: Any) -> tuple[str, ...]:  # noqa: ANN401 (JSON)
        within = package_path(tree["ast"]) + call.path
        if within in self._own:
            return within
        target = module_imports(tree).get(call.path[0])
        return (*target, *call.path[1:]) if target is not None else call.path

    def builtin_of(self, node: Any, tree: Any) -> str | None:  # noqa: ANN401 (JSON)
        """As `builtin`, of a call's node in the syntax tree."""
        call = _call(node)
        return None if call is None else self.builtin(call, tree)


def check_calls(trees: Sequence[Any]) -> list[Fault]:
    """Faults of all calls that the engine could not make: lacking builtins, undefined functions, wrong arguments."""
    functions = Functions(trees)
    faults: list[Fault] = []
    for tree in trees:
        file = tree["source"]["file"]
        calls = sorted(find_calls(tree["ast"]["rules"]), key=lambda call: call.start)
        for call in calls:
            name = functions.builtin(call, tree)
            fault = _own_fault(functions.own(call, tree), call) if name is None else _fault(name, call, functions)
            if fault is not None:
                message, way_out = fault
                faults.append(Fault(message, file, call.line, way_out=way_out))
    return faults


def _own_fault(function: tuple[str, int] | None, call: Call) -> tuple[str, str] | None:
    """What is wrong with a call of a function of the policies, and the way out."""
    if function is None or call.arguments in {function[1], function[1] + 1}:  # one more: the output as an argument
        return None
    name, arity = function
    return f"function {name} takes {_arguments(arity)}, {call.arguments} {_are(call.arguments)} given", ""


def _arguments(count: int) -> str:
    return f"{count} argument{'' if count == 1 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _fault(name: str, call: Call, functions: Functions) -> tuple[str, str] | None:
    """What is wrong with a call, and the way out."""
    if name in WAYS_OUT:
        return f"the embedded engine lacks the builtin {name}", WAYS_OUT[name]
    arity = SUPPORTED.get(name)
    if arity is None:
        return f"function {name} is not defined", suggest(name, [*SUPPORTED, *functions.names()])
    if arity >= 0 and call.arguments not in {arity, arity + 1}:  # one more: the output as an argument
        return f"builtin {name} takes {_arguments(arity)}, {call.arguments} {_are(call.arguments)} given", ""
    for index, (kind, kinds) in enumerate(zip(call.kinds, ARGUMENTS[name], strict=False), start=1):
        if _UNKNOWN not in (kind, kinds) and kinds != "*" and kind not in kinds:
            wanted = " or ".join(_KIND_NAMES[one] for one in kinds)
            return f"argument {index} of {name} must be {wanted}, {_KIND_NAMES[kind]} is given", ""
    return None


def suggest(name: str, known: Iterable[str]) -> str:
    """A way out for a name that does not exist: the nearest one that does; empty when none is near."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else ""


def package_path(module: Any) -> tuple[str, ...]:  # noqa: ANN401 (JSON)
    """Path of a module's package, `data` first."""
    return ("data", *(ref_path(module["package"]["refr"]) or ()))


def module_imports(tree: Any) -> dict[str, tuple[str, ...]]:  # noqa: ANN401 (JSON)
    """Paths by the name under which a module imports them."""
    text = tree["source"]["contents"].encode()
    names: dict[str, tuple[str, ...]] = {}
    for entry in tree["ast"]["imports"]:
        path, alias = ref_path(entry["refr"]), entry.get("as")
        if path is not None and path[0] in {"data", "input"}:
            names[path[-1] if alias is None else text[alias["start"] : alias["end"]].decode()] = path
    return names


def _arity(rule: Any) -> int:  # noqa: ANN401 (JSON)
    """Number of arguments of the function that a rule defines."""
    return len(rule["Spec"]["head"]["Func"]["args"] if "Spec" in rule else rule["Default"]["args"])


def _function_path(rule: Any) -> tuple[str, ...] | None:  # noqa: ANN401 (JSON)
    """Path of the function that a rule defines, within its package; None when it defines something else."""
    if "Spec" in rule:
        function = rule["Spec"]["head"].get("Func")
        return ref_path(function["refr"]) if function is not None else None
    default = rule.get("Default")
    return ref_path(default["refr"]) if default is not None and default["args"] else None
