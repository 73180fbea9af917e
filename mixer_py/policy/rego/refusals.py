"""What a policy may not say to the embedded engine, because it would answer otherwise than OPA without a word.

Each refusal names the place and a way out. Which builtins are refused by name is `rego.calls`' to say, and what is
wrong with an argument that is written out is `rego.literals`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from mixer_py.errors import Fault
from mixer_py.policy.builtins.table import SUPPORTED
from mixer_py.policy.rego.calls import Functions, find_calls, package_path
from mixer_py.policy.rego.literals import check_literals
from mixer_py.policy.rego.trees import modifiers_below, objects_below, ref_path, span_of

_OPA: Final = "use `engine: opa`"
_NUMBER: Final = re.compile(rb"-?[0-9]+(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][+-]?[0-9]+)?")
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
_WITH_KEYS: Final = frozenset({"Array", "ArrayCompr", "Object", "ObjectCompr"})

Head = tuple[str | None, ...]
"""Path of a rule, None where a variable or a set's element stands."""

Place = tuple[Head, str, int]
"""A head, its file and its line."""

_Refusals = Iterator[tuple[int, str, str]]
"""Line, message and way out of each."""


def check_refusals(trees: Sequence[Any]) -> list[Fault]:
    """A fault for everything in `trees`, the modules' syntax trees, that would be answered otherwise than by OPA."""
    functions = Functions(trees)
    faults = [
        Fault(message, tree["source"]["file"], line, way_out=way_out)
        for tree in trees
        for line, message, way_out in sorted(
            {
                *_keywords(tree),
                *_defaults(tree),
                *_nodes(tree, functions),
                *_mocks(tree, functions),
                *check_literals(tree, functions),
            }
        )
    ]
    return faults + _mixed_heads([place for tree in trees for place in _heads(tree)])


def _keywords(tree: Any) -> _Refusals:  # noqa: ANN401 (JSON)
    for entry in tree["ast"]["imports"]:
        if ref_path(entry["refr"]) == ("future", "keywords", "not"):
            message = "the embedded engine lacks the keyword `not` with a body"
            yield span_of(entry["refr"])["line"], message, f"write a helper rule and negate that; or {_OPA}"


def _defaults(tree: Any) -> _Refusals:  # noqa: ANN401 (JSON)
    for rule in tree["ast"]["rules"]:
        default = rule.get("Default")
        if default is not None and default["args"] and "Var" not in default["refr"]:
            message = "a default for a function whose name has several parts is not as in OPA"
            yield default["span"]["line"], message, "put the function into a package of its own"


def _nodes(tree: Any, functions: Functions) -> _Refusals:  # noqa: ANN401 (JSON)
    text = tree["source"]["contents"].encode()
    for found in objects_below(*tree["ast"]["rules"]):
        yield from _node(found, text, tree, functions)


def _node(node: Mapping[str, Any], text: bytes, tree: Any, functions: Functions) -> _Refusals:  # noqa: ANN401 (JSON)
    match node:
        case {"Number": {"span": span}}:
            yield from _number(text, span)
        case {"Membership": {"key": dict(), "collection": collection, "span": span}} if not _has_keys(collection):
            message = "`key, value in …` finds nothing in a set here"
            yield span["line"], message, "write `collection[key] == value`, or `value in collection` for a set"
        case {"Call": {"fcn": function, "params": [_]} as call} if functions.builtin_of(call, tree) == "walk":
            message = "the embedded engine finds nothing by walk in this place"
            yield span_of(function)["line"], message, "write it as a statement, `walk(x, [path, value])`"
        case {"NotExpr": {"expr": {"Call": {"fcn": function} as call}}} if functions.builtin_of(call, tree) == "walk":
            yield span_of(function)["line"], "walk cannot be negated here", "write a helper rule and negate that"


def _number(text: bytes, span: Mapping[str, int]) -> _Refusals:
    found = _NUMBER.match(text, span["start"])
    if found is None:
        return
    written = found[0].decode()
    if found["fraction"] is None and found["exponent"] is None:
        if not _SMALLEST <= int(written) <= _LARGEST:
            yield span["line"], f"the embedded engine has no such number as {written}, beyond 64 bits", _OPA
    elif Decimal(written) != Decimal(repr(float(written))):
        yield span["line"], f"the number {written} is more exact than the embedded engine can hold", _OPA


def _has_keys(collection: Any) -> bool:  # noqa: ANN401 (JSON)
    """Whether it is certain that a collection is an array or an object: it is written out, or from the input."""
    kind, node = next(iter(collection.items())), collection
    if kind[0] in _WITH_KEYS:
        return True
    while "Var" not in node:
        ((_, content),) = node.items()
        if "refr" not in content:
            return False
        node = content["refr"]
    return bool(node["Var"]["value"] == "input")


def _mocks(tree: Any, functions: Functions) -> _Refusals:  # noqa: ANN401 (JSON)
    """A builtin replaced by a function that calls it: in OPA that is the builtin itself."""
    calls_by_function: dict[str, set[str]] = {}
    for rule in tree["ast"]["rules"]:
        head = rule.get("Spec", {}).get("head", {}).get("Func")
        path = ref_path(head["refr"]) if head is not None else None
        if path is not None:
            found = {functions.builtin(call, tree) or "" for call in find_calls(rule)}
            calls_by_function.setdefault(".".join(path), set()).update(found)
    for modifier in modifiers_below(*tree["ast"]["rules"]):
        target, mock = ref_path(modifier["refr"]), _reference(modifier["as"])
        name = ".".join(target or ())
        if name in SUPPORTED and name in calls_by_function.get(".".join(mock or ()), ()):
            message = f"{'.'.join(mock or ())}, which takes the place of {name}, calls it"
            yield span_of(modifier["refr"])["line"], message, _OPA


def _reference(node: Any) -> tuple[str, ...] | None:  # noqa: ANN401 (JSON)
    return ref_path(node) if next(iter(node)) in {"Var", "RefDot", "RefBrack"} else None


def _heads(tree: Any) -> Iterator[Place]:  # noqa: ANN401 (JSON)
    package = package_path(tree["ast"])
    for rule in tree["ast"]["rules"]:
        head = rule.get("Spec", {}).get("head", {})
        kind = next(iter(head), "Func")
        if kind == "Func":
            continue
        parts: list[str | None] = [None] if kind == "Set" else []
        node = head[kind]["refr"]
        while "Var" not in node:
            ((form, content),) = node.items()
            parts.append(content["field"][1] if form == "RefDot" else _constant(content["index"]))
            node = content["refr"]
        parts.append(node["Var"]["value"])
        yield (*package, *reversed(parts)), tree["source"]["file"], rule["Spec"]["span"]["line"]


def _constant(index: Any) -> str | None:  # noqa: ANN401 (JSON)
    return str(index["String"]["value"]) if "String" in index else None


def _mixed_heads(places: Sequence[Place]) -> list[Fault]:
    """Rules with a variable within their name, where another rule has a constant in its place."""
    variable = [place for place in places if None in place[0][:-1]]
    faults = []
    for head, file, line in variable:
        position = head.index(None)
        if any(
            len(other) > position and other[:position] == head[:position] and other[position] is not None
            for other, _, _ in places
        ):
            message = f"the rule {_written(head)} has a variable where another rule's name has a constant"
            faults.append(Fault(message, file, line, way_out=f"give them different names; or {_OPA}"))
    return faults


def _written(head: Head) -> str:
    return "".join(f"[{part or '_'}]" if part is None else f".{part}" for part in head).lstrip(".")
