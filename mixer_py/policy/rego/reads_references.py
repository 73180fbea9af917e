"""References as they stand in a syntax tree: a first name, and the parts after it as far as they are constant.

Not for: what a name means (`reads_rules.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

Path = tuple[str, ...]
"""Names from a document's root downwards."""
REFERENCES: Final = frozenset({"Var", "RefDot", "RefBrack"})
"""Kinds of nodes that are references."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference as written: its first name, its constant parts, whether these are all, and its line."""

    name: str
    parts: Path
    exact: bool
    line: int


def head_of(rule: Any) -> Reference:  # noqa: ANN401 (JSON)
    """The reference that a rule defines."""
    ((_, content),) = rule.items()
    head = next(iter(content["head"].values())) if "head" in content else content
    reference, _ = read_reference(head["refr"])
    if reference is None:
        raise ValueError("a rule's head is no reference")
    return reference


def read_reference(node: Any) -> tuple[Reference | None, list[Any]]:  # noqa: ANN401 (JSON)
    """The reference that a node is (None when it starts at no name), and the nodes in its brackets and at its start."""
    parts: list[str | None] = []
    inner: list[Any] = []
    while True:
        ((kind, value),) = node.items()
        if kind == "RefDot":
            parts.append(value["field"][1])
        elif kind == "RefBrack":
            index = value["index"]
            if "String" in index:
                parts.append(index["String"]["value"])
            else:
                parts.append(None)
                inner.append(index)
        elif kind == "Var":
            break
        else:
            return None, [*inner, node]
        node = value["refr"]
    parts.reverse()
    constant: list[str] = []
    for part in parts:
        if part is None:
            break
        constant.append(part)
    return Reference(value["value"], tuple(constant), len(constant) == len(parts), value["span"]["line"]), inner


def kind_of(node: Any) -> str:  # noqa: ANN401 (JSON)
    """The kind of a syntax node; empty for what is none."""
    return next(iter(node)) if isinstance(node, dict) and len(node) == 1 else ""


def replaces_input(modifier: Any) -> bool:  # noqa: ANN401 (JSON)
    """Whether it is `with input as …`, which reads nothing of what was there before."""
    return kind_of(modifier["refr"]) == "Var" and modifier["refr"]["Var"]["value"] == "input"


def constant_keys(node: Any) -> Path | None:  # noqa: ANN401 (JSON)
    """The key, or keys, that an argument of `object.get` is made of."""
    items = node["Array"]["items"] if "Array" in node else [node]
    if all(kind_of(item) == "String" for item in items):
        return tuple(item["String"]["value"] for item in items)
    return None
