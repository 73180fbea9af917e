"""Calls that take their result as a last argument, `io.jwt.decode(token, [_, claims, _])`, written as `=`.

Rego allows both. The embedded engine knows the first form only of builtins that it brings itself, so such calls of
those in Python are rewritten before it compiles a module. Lines stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from mixer_py.policy.builtins.corrected import EXTENSIONS
from mixer_py.policy.rego.calls import Functions

_BEFORE_COMMA: Final = re.compile(rb"(?:[\s)\"`]|#[^\n]*\n)*")
_MAY_HAVE: Final = re.compile("|".join(re.escape(name) for name in EXTENSIONS))

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
    for call in _statements(tree["ast"]["rules"]):
        parameters = call["params"]
        found = functions.builtin_of(call, tree)
        if found is None or EXTENSIONS.get(found) != len(parameters) - 1:
            continue
        before, output = _span(parameters[-2]), _span(parameters[-1])
        skipped = _BEFORE_COMMA.match(text, before["end"])
        comma = skipped.end() if skipped is not None else before["end"]
        if text[comma : comma + 1] != b",":
            continue
        yield comma, comma + 1, b") ="
        end = call["span"]["end"]
        trailing = text.rfind(b",", output["end"], end)
        if trailing >= 0:
            yield trailing, trailing + 1, b" "
        yield end - 1, end, b" "


def _statements(rules: Sequence[Any]) -> Iterator[Any]:
    """Calls that are a whole statement, negated or not."""
    pending: list[Any] = list(rules)
    while pending:
        current = pending.pop()
        if isinstance(current, list):
            pending.extend(current)
        elif isinstance(current, dict):
            for kind in ("Expr", "NotExpr"):
                expression = current.get(kind, {}).get("expr") if isinstance(current.get(kind), dict) else None
                if isinstance(expression, dict) and "Call" in expression and "fcn" in expression["Call"]:
                    yield expression["Call"]
            pending.extend(value for value in current.values() if isinstance(value, (dict, list)))


def _span(node: Any) -> Any:  # noqa: ANN401 (JSON)
    (content,) = node.values()
    return content["span"]
