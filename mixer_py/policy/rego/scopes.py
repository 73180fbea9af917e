"""What the names in a rule stand for: local ones, or rules, functions, imports and documents.

A name is local where the query that it stands in, or one around that, declares it: as an argument, by `:=`, `some` or
`every`. Not for: what a decision reads (`reads_rules.py` takes a name that could mean several things for all of them).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mixer_py.policy.rego.reads_references import REFERENCES, kind_of
from mixer_py.policy.rego.trees import objects_below

Names = frozenset[str]

_COMPREHENSIONS: Final = frozenset({"ArrayCompr", "SetCompr", "ObjectCompr"})
_NO_NAMES: Final[Names] = frozenset()


@dataclass(frozen=True, slots=True)
class Use:
    """A reference that starts at a name which is not local.

    Attributes:
        name: the first.
        parts: the others; None for one that is not constant.
        line: 1-based.
        called: it is a call of this function.
    """

    name: str
    parts: tuple[str | None, ...]
    line: int
    called: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A head with one of its bodies.

    Attributes:
        arguments: names of a function's.
        query: the body; None for a rule without one.
        terms: what stands in the head, or behind `else`: its keys and its value.
    """

    arguments: Names
    query: Any
    terms: Sequence[Any]

    def uses(self, contents: bytes) -> Iterator[Use]:
        """Every reference in it that is not local."""
        if self.query is not None:
            yield from _uses(self.query, self.arguments, contents)
        local = self.arguments if self.query is None else self.arguments | _declared(self.query, contents)
        yield from _uses(list(self.terms), local, contents)

    def unbound(self) -> Iterator[tuple[str, int]]:
        """Name and line of what the head refers to that is no argument and does not stand in the body.

        What stands there without a value the engine finds by itself. Comprehensions are `unbound_terms`'.
        """
        found = [(name, line) for name, line in _outside_of_comprehensions(self.terms) if name not in self.arguments]
        bound = {name for name, _ in _outside_of_comprehensions(self.query)} if found else _NO_NAMES
        return ((name, line) for name, line in found if name not in bound)


def declared_in(rule: Any, contents: bytes) -> Iterator[str]:  # noqa: ANN401 (JSON)
    """Names that `some x` and `every x` declare anywhere in a rule, whose nodes are only places in the text."""
    for found in objects_below(rule):
        every = found.get("Every")
        spans = [every["key"], every["value"]] if isinstance(every, dict) else found.get("SomeVars", {}).get("vars", ())
        yield from _texts(spans, contents)


def unbound_terms(rule: Any) -> Iterator[tuple[str, int]]:  # noqa: ANN401 (JSON)
    """Name and line of every variable that only stands in what comprehensions collect, `x` in `[x | true]`."""
    collected: dict[str, int] = {}
    others: set[str] = set()
    pending: list[tuple[Any, bool]] = [(rule, False)]
    while pending:
        node, is_collected = pending.pop()
        if isinstance(node, list):
            pending.extend((item, is_collected) for item in node)
        elif isinstance(node, dict):
            kind = kind_of(node)
            if kind == "Var":
                span = node["Var"]["span"]
                if is_collected:
                    collected.setdefault(node["Var"]["value"], span["line"])
                else:
                    others.add(node["Var"]["value"])
            elif kind in _COMPREHENSIONS:
                pending.extend((value, key != "query") for key, value in node[kind].items())
            else:
                pending.extend((value, is_collected and key != "fcn") for key, value in node.items())
    return ((name, line) for name, line in collected.items() if name not in others)


def parts_of(rule: Any) -> Iterator[Part]:  # noqa: ANN401 (JSON)
    """The bodies of a definition, each with what has its value from it; none for a default, which is constant."""
    spec = rule.get("Spec")
    if spec is None:
        return
    ((kind, head),) = spec["head"].items()
    arguments = frozenset(_names_in(head["args"])) if kind == "Func" else _NO_NAMES
    terms = [head["key"]] if kind == "Set" else []
    node = head["refr"]
    while "Var" not in node:
        ((form, content),) = node.items()
        if form == "RefBrack":
            terms.append(content["index"])
        node = content["refr"]
    assign = head.get("assign")
    if assign is not None:
        terms.append(assign["value"])
    if not spec["bodies"]:
        yield Part(arguments, None, terms)
    for index, body in enumerate(spec["bodies"]):
        if index:
            terms = [] if body["assign"] is None else [body["assign"]["value"]]
        yield Part(arguments, body["query"], terms)


def _uses(root: Any, local: Names, contents: bytes) -> Iterator[Use]:  # noqa: ANN401 (JSON)
    pending: list[tuple[Any, Names]] = [(root, local)]
    while pending:
        node, names = pending.pop()
        if isinstance(node, list):
            pending.extend((item, names) for item in node)
            continue
        if not isinstance(node, dict):
            continue
        kind = kind_of(node)
        if kind in REFERENCES:
            use, inner = _read(node)
            pending.extend((item, names) for item in inner)
            if use is not None and use.name not in names:
                yield use
            continue
        if kind == "Call":
            use, inner = _read(node["Call"]["fcn"])
            pending.extend((item, names) for item in (*inner, *node["Call"]["params"]))
            if use is not None:
                yield Use(use.name, use.parts, use.line, called=True)
            continue
        if kind in _COMPREHENSIONS:
            names |= _declared(node[kind]["query"], contents)
        elif kind == "Every":
            every = node["Every"]
            pending.append((every["domain"], names))
            pending.append((every["query"], names | set(_texts((every["key"], every["value"]), contents))))
            continue
        elif "stmts" in node:
            names |= _declared(node, contents)
        pending.extend((_without_target(value) if key == "with_mods" else value, names) for key, value in node.items())


def _without_target(modifiers: Sequence[Any]) -> list[Any]:
    """Of `with a as b`, the `b`: what is at `a` is replaced and not used."""
    return [modifier["as"] for modifier in modifiers]


def _read(node: Any) -> tuple[Use | None, list[Any]]:  # noqa: ANN401 (JSON)
    """A reference, None where it starts at no name, and the nodes within it."""
    parts: list[str | None] = []
    inner: list[Any] = []
    while True:
        ((kind, value),) = node.items()
        if kind == "Var":
            return Use(value["value"], tuple(reversed(parts)), value["span"]["line"]), inner
        if kind == "RefDot":
            parts.append(value["field"][1])
        elif kind == "RefBrack":
            index = value["index"]
            parts.append(_key(index))
            inner.append(index)
        else:
            return None, [*inner, node]
        node = value["refr"]


def _key(index: Any) -> str | None:  # noqa: ANN401 (JSON)
    """What stands in brackets as a name, None where it is not constant; a number is the text that it looks like."""
    ((kind, content),) = index.items()
    return str(content["value"]) if kind in {"String", "RawString", "Number"} else None


def _declared(query: Any, contents: bytes) -> Names:  # noqa: ANN401 (JSON)
    """The names that the statements of a query declare for it."""
    names: set[str] = set()
    for statement in query["stmts"]:
        match statement["literal"]:
            case {"Expr": {"expr": {"AssignExpr": {"op": "ColEq", "lhs": target}}}}:
                names.update(_names_in(target))
            case {"SomeVars": {"vars": spans}}:
                names.update(_texts(spans, contents))
            case {"SomeIn": {"key": key, "value": value}}:
                names.update(_names_in([key, value]))
    return frozenset(names)


def _names_in(*roots: Any) -> Iterator[str]:  # noqa: ANN401 (JSON)
    return (found["Var"]["value"] for found in objects_below(*roots) if kind_of(found) == "Var")


def _texts(spans: Sequence[Any], contents: bytes) -> Iterator[str]:
    return (contents[span["start"] : span["end"]].decode() for span in spans if span is not None)


def _outside_of_comprehensions(root: Any) -> Iterator[tuple[str, int]]:  # noqa: ANN401 (JSON)
    """Names, with their lines, at which references begin; not those of functions, nor what only `some` declares."""
    pending: list[Any] = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            kind = kind_of(node)
            if kind == "Var":
                yield node["Var"]["value"], node["Var"]["span"]["line"]
            elif kind != "SomeVars" and kind not in _COMPREHENSIONS:
                pending.extend(value for key, value in node.items() if key != "fcn")
