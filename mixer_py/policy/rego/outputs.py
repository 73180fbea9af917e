"""Calls and where their result goes, written as the embedded engine knows it. Lines stay where they are.

Rego gives a call's result to a last argument, `io.jwt.decode(token, [_, claims, _])`, or by `:=` and `=`. The engine
knows the first form only of builtins that it brings itself, so such calls of those in Python get the second; and it
finds nothing in `[path, value] := walk(x)`, which therefore becomes `some path, value; walk(x, [path, value])`. Regular
expressions that are written out are written as the engine's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from mixer_py.policy.builtins.corrected import EXTENSIONS
from mixer_py.policy.builtins.table import SPRINTF
from mixer_py.policy.rego.calls import Functions, call_nodes
from mixer_py.policy.rego.patterns import translate
from mixer_py.policy.rego.trees import objects_below, span_of

_BEFORE_COMMA: Final = re.compile(rb"(?:[\s)\"`]|#[^\n]*\n)*")
_WALK: Final = "walk"
_PATTERNS: Final = {
    "regex.find_all_string_submatch_n": 0,
    "regex.find_n": 0,
    "regex.match": 0,
    "regex.replace": 1,
    "regex.split": 0,
}
"""Places of the regular expressions among the arguments."""
_SIMPLE_FORMAT: Final = re.compile(r"(?:[^%]|%[vs%])*", re.DOTALL)
_MAY_HAVE: Final = re.compile("|".join(map(re.escape, (*EXTENSIONS, _WALK, "regex.", "sprintf"))))

Edit = tuple[int, int, bytes]
"""Start, end, and what to put there; in bytes."""


def may_have_outputs(text: str) -> bool:
    """Whether a module's text names one of the builtins at all."""
    return _MAY_HAVE.search(text) is not None


def assign_outputs(tree: Any, functions: Functions) -> str:  # noqa: ANN401 (the engine's syntax tree, which is JSON)
    """A module's text with `f(x, y)` as `f(x) = y` where a builtin in Python is meant."""
    text = tree["source"]["contents"].encode()
    pieces, position = [], 0
    for start, end, new in sorted(_edits(tree, functions, text)):
        pieces += [text[position:start], new]
        position = end
    return b"".join([*pieces, text[position:]]).decode()


def _edits(tree: Any, functions: Functions, text: bytes) -> Iterator[Edit]:  # noqa: ANN401 (JSON)
    for expression in _statements(tree["ast"]["rules"]):
        if _is_call(expression):
            yield from _output_edits(expression["Call"], tree, functions, text)
        elif "AssignExpr" in expression:
            yield from _walk_edits(expression["AssignExpr"], tree, functions, text)
    for call in call_nodes(tree["ast"]["rules"]):
        name = functions.builtin_of(call, tree) or ""
        if name == "sprintf" and not _is_simple(call["params"][0]):
            span = span_of(call["fcn"])
            yield span["start"], span["end"], SPRINTF.encode()
        place = _PATTERNS.get(name)
        if place is not None and place < len(call["params"]):
            yield from _pattern_edits(call["params"][place])


def _is_simple(parameter: Any) -> bool:  # noqa: ANN401 (JSON)
    """Whether a format is written out and has nothing in it but `%v`, `%s` and `%%`."""
    ((kind, content),) = parameter.items()
    return kind in {"String", "RawString"} and _SIMPLE_FORMAT.fullmatch(content["value"]) is not None


def _pattern_edits(parameter: Any) -> Iterator[Edit]:  # noqa: ANN401 (JSON)
    """A regular expression that is written out, as the engine's."""
    ((kind, content),) = parameter.items()
    if kind not in {"String", "RawString"}:
        return
    translated = translate(content["value"])
    if translated != content["value"]:
        new = translated if kind == "RawString" else json.dumps(translated, ensure_ascii=False)[1:-1]
        yield content["span"]["start"], content["span"]["end"], new.encode()


def _output_edits(call: Any, tree: Any, functions: Functions, text: bytes) -> Iterator[Edit]:  # noqa: ANN401 (JSON)
    """`f(x, y)` as `f(x) = y`."""
    parameters = call["params"]
    found = functions.builtin_of(call, tree)
    if found == "sprintf":
        found = SPRINTF
    if found is None or EXTENSIONS.get(found) != len(parameters) - 1:
        return
    before, output = span_of(parameters[-2]), span_of(parameters[-1])
    skipped = _BEFORE_COMMA.match(text, before["end"])
    comma = skipped.end() if skipped is not None else before["end"]
    if text[comma : comma + 1] != b",":
        return
    yield comma, comma + 1, b") ="
    end = call["span"]["end"]
    trailing = text.rfind(b",", output["end"], end)
    if trailing >= 0:
        yield trailing, trailing + 1, b" "
    yield end - 1, end, b" "


def _walk_edits(assignment: Any, tree: Any, functions: Functions, text: bytes) -> Iterator[Edit]:  # noqa: ANN401 (JSON)
    """`pattern := walk(x)` as `some …; walk(x, pattern)`."""
    left, right = assignment["lhs"], assignment["rhs"]
    if not _is_call(right) or functions.builtin_of(right["Call"], tree) != _WALK or len(right["Call"]["params"]) != 1:
        return
    start, call = assignment["span"]["start"], right["Call"]["span"]
    function = span_of(right["Call"]["fcn"])["start"]
    removed = text[start:function]
    if b"#" in removed:
        return
    declared = sorted(set(_variables(left))) if assignment["op"] == "ColEq" else []
    some = f"some {', '.join(declared)}; ".encode() if declared else b""
    pattern = removed.rstrip()[: -len(":=" if assignment["op"] == "ColEq" else "=")]
    yield start, function, some + b"\n" * removed.count(b"\n")
    yield call["end"] - 1, call["end"] - 1, b", " + b" ".join(pattern.split(b"\n"))


def _variables(pattern: Any) -> Iterator[str]:  # noqa: ANN401 (JSON)
    match pattern:
        case {"Var": {"value": str(name)}} if name != "_":
            yield name
        case {"Array": {"items": [*items]}}:
            for item in items:
                yield from _variables(item)
        case {"Object": {"fields": [*fields]}}:
            for _, _, value in fields:
                yield from _variables(value)


def _statements(rules: Sequence[Any]) -> Iterator[Any]:
    """Expressions that are a whole statement, negated or not."""
    for found in objects_below(*rules):
        for kind in ("Expr", "NotExpr"):
            if isinstance(found.get(kind), dict) and isinstance(found[kind].get("expr"), dict):
                yield found[kind]["expr"]


def _is_call(node: Any) -> bool:  # noqa: ANN401 (JSON)
    return "Call" in node and "fcn" in node["Call"]
