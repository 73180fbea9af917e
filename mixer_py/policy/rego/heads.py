"""Heads of rules as the embedded engine takes them for parts of an object: `r.a := 1` as `r["a"] := 1`.

While none of its rules holds, `r` is an empty object to OPA. To the engine it is one only where a key is in brackets;
else it is undefined, and with it the result that it is part of. Lines stay where they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from mixer_py.policy.rego.trees import package_of, ref_path

_MAY_HAVE: Final = re.compile(r"^\s*\w+(?:\.\w+|\[[^\]\n]*\])*\.\w+\s*(?::?=(?!=)|if\b)", re.MULTILINE)

_Rule = tuple[tuple[str, ...], str]
"""A rule's package and name."""


def may_have_dots(text: str) -> bool:
    """Whether a module's text may have such heads at all."""
    return _MAY_HAVE.search(text) is not None


def put_in_brackets(trees: Sequence[Any]) -> list[str]:
    """The modules' texts with the last key of each head in brackets.

    An empty object below one that has variable keys too is none to OPA; such heads stay as they are.
    """
    variable = {(package_of(tree["ast"]), _name(head)) for tree in trees for head in _heads(tree) if _is_variable(head)}
    return [_written(tree, variable) for tree in trees]


def _written(tree: Any, variable: AbstractSet[_Rule]) -> str:  # noqa: ANN401 (JSON)
    text, package = tree["source"]["contents"].encode(), package_of(tree["ast"])
    pieces, position = [], 0
    for head in _heads(tree):
        dotted = head.get("RefDot")
        if dotted is None or ("Var" not in dotted["refr"] and (package, _name(head)) in variable):
            continue
        place, key = dotted["field"]
        if text[place["start"] - 1 : place["end"]] == f".{key}".encode():
            pieces += [text[position : place["start"] - 1], f"[{json.dumps(key)}]".encode()]
            position = place["end"]
    return b"".join([*pieces, text[position:]]).decode()


def _heads(tree: Any) -> Iterator[Any]:  # noqa: ANN401 (JSON)
    """What the heads of rules with one value name, in order of their places."""
    for rule in tree["ast"]["rules"]:
        head = rule.get("Spec", {}).get("head", {}).get("Compr")
        if head is not None:
            yield head["refr"]


def _name(head: Any) -> str:  # noqa: ANN401 (JSON)
    while "Var" not in head:
        (content,) = head.values()
        head = content["refr"]
    name: str = head["Var"]["value"]
    return name


def _is_variable(head: Any) -> bool:  # noqa: ANN401 (JSON)
    return ref_path(head) is None
