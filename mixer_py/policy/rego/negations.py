"""What stands within a negated expression, taken out of it as OPA does. Lines stay where they are.

To OPA `not f(g(input.x))` is `y := input.x; z := g(y); not f(z)`: only the outermost call, or a comparison by `==`, is
negated, and where `input.x` is absent the body fails. The embedded engine would negate all of it, so that an absent
field makes it true; what denies in OPA would let people in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mixer_py.policy.rego.calls import module_imports, package_path
from mixer_py.policy.rego.trees import objects_below, span_of

_NOT: Final = re.compile(r"\bnot\b")
_TAKEN: Final = re.compile(r"mixer_negated_[0-9]+")
_ASSIGNED: Final = re.compile(rf"({_TAKEN.pattern}) := (.*)", re.DOTALL)
_REFERENCES: Final = frozenset({"RefDot", "RefBrack"})
_OPERATIONS: Final = frozenset({"ArithExpr", "BinExpr", "BoolExpr", "Membership"})
_DOCUMENTS: Final = frozenset({"input", "data"})
_QUOTES: Final = (b'"', b"`")

Place = tuple[int, int]
"""Start and end in the module's text, in bytes."""


@dataclass(frozen=True, slots=True)
class _Negation:
    """A negated statement: its place, the places of what is taken out, and where its `with` begins."""

    start: int
    end: int
    modifiers: int
    terms: tuple[Place, ...]
    braced: bool


def may_negate(text: str) -> bool:
    """Whether a module's text has a `not` at all."""
    return _NOT.search(text) is not None


def as_written(statements: Sequence[str]) -> list[str]:
    """Statements of a rule as their author wrote them: what was taken out of a negation is within it again.

    Args:
        statements: texts, in the order of the rule; those that take out stand as the negation that they belong to.
    """
    terms: dict[str, str] = {}
    written: list[str] = []
    for statement in statements:
        assigned = _ASSIGNED.fullmatch(statement)
        text = _TAKEN.sub(lambda name: terms.get(name[0], name[0]), statement if assigned is None else assigned[2])
        if assigned is not None:
            terms[assigned[1]] = text
        written.append("" if assigned is not None else text)
    for index in range(len(written) - 2, -1, -1):
        written[index] = written[index] or written[index + 1]
    return written


class Negations:
    """Takes terms out of negated expressions, in modules that belong together."""

    def __init__(self, trees: Sequence[Any]) -> None:
        """Learn the names of the rules in `trees`, all modules' syntax trees."""
        self._rules: dict[tuple[str, ...], set[str]] = {}
        for tree in trees:
            self._rules.setdefault(package_path(tree["ast"]), set()).update(map(_rule_name, tree["ast"]["rules"]))

    def take_out(self, tree: Any) -> str:  # noqa: ANN401 (the engine's syntax tree, which is JSON)
        """The module's text with everything taken out that OPA does not negate."""
        text = tree["source"]["contents"].encode()
        names = self._rules[package_path(tree["ast"])] | set(module_imports(tree)) | _DOCUMENTS
        negations = sorted(_negations(tree["ast"]["rules"], text, names), key=lambda one: one.start)
        return _render(text, negations, 0, len(text)).decode()


def _rule_name(rule: Any) -> str:  # noqa: ANN401 (JSON)
    (content,) = rule.values()
    node = next(iter(content["head"].values()))["refr"] if "head" in content else content["refr"]
    while "Var" not in node:
        (inner,) = node.values()
        node = inner["refr"]
    name: str = node["Var"]["value"]
    return name


def _negations(rules: Any, text: bytes, names: set[str]) -> Iterator[_Negation]:  # noqa: ANN401 (JSON)
    unbraced: set[int] = set()
    for found in objects_below(rules):
        if "is_else" in found:
            place = found["query"]["span"]["start"]
            if text[place : place + 1] != b"{":
                unbraced.add(found["query"]["qidx"])
        for statement in found.get("stmts", ()):
            literal = statement["literal"].get("NotExpr")
            terms = tuple(_taken_out(literal["expr"], names)) if literal is not None else ()
            if terms:
                start, end = _place(statement["span"], text)
                _, modifiers = _place(literal["span"], text)
                places = tuple(_place(term, text) for term in terms)
                yield _Negation(start, end, modifiers, places, found["qidx"] in unbraced)


def _place(span: Any, text: bytes) -> Place:  # noqa: ANN401 (JSON)
    """Start and end of a node; the engine leaves out the quotes of a string at either end."""
    start, end = span["start"], span["end"]
    return start - (text[start - 1 : start] in _QUOTES), end + (text[end : end + 1] in _QUOTES)


def _render(text: bytes, negations: Iterable[_Negation], start: int, end: int) -> bytes:
    """The text between two places, with what is negated there written anew."""
    pieces, position = [], start
    inner = [one for one in negations if start <= one.start and one.end <= end]
    for negation in inner:
        if negation.start < position:
            continue  # within one that was written already
        below = [one for one in inner if negation.start < one.start and one.end <= negation.end]
        modifiers = text[negation.modifiers : negation.end].rstrip()
        pieces += [text[position : negation.start], b"{ " if negation.braced else b""]
        for first, last in negation.terms:
            pieces += [_variable(first), b" := ", _render(text, below, first, last), modifiers, b"; "]
        place = negation.start
        for first, last in negation.terms:
            pieces += [_render(text, below, place, first), _variable(first)]
            place = last
        pieces += [_render(text, below, place, negation.end), b" }" if negation.braced else b""]
        position = negation.end
    return b"".join([*pieces, text[position:end]])


def _variable(place: int) -> bytes:
    return f"mixer_negated_{place}".encode()


def _taken_out(expression: Any, names: set[str]) -> Iterator[Any]:  # noqa: ANN401 (JSON)
    """Spans of the terms that OPA evaluates before it negates an expression, in the order of the text."""
    ((kind, value),) = expression.items()
    if kind == "AssignExpr" or (kind == "BoolExpr" and value["op"] == "Eq"):
        yield from _in_term(value["lhs"], names)
        yield from _in_term(value["rhs"], names)
    elif kind in _OPERATIONS:
        for side in ("key", "value", "lhs", "rhs", "collection"):
            if isinstance(value.get(side), dict):
                yield from _as_operand(value[side], names)
    elif kind == "Call":
        for parameter in value["params"]:
            yield from _as_operand(parameter, names)
    else:
        yield from _in_term(expression, names)


def _as_operand(node: Any, names: set[str]) -> Iterator[Any]:  # noqa: ANN401 (JSON)
    ((kind, value),) = node.items()
    if kind in _REFERENCES or kind in _OPERATIONS or kind == "Call" or (kind == "Var" and value["value"] in names):
        yield span_of(node)
    elif kind in {"Array", "Set"}:
        for item in value["items"]:
            yield from _as_operand(item, names)
    elif kind == "Object":
        for _, key, item in value["fields"]:
            yield from _as_operand(key, names)
            yield from _as_operand(item, names)


def _in_term(node: Any, names: set[str]) -> Iterator[Any]:  # noqa: ANN401 (JSON)
    ((kind, value),) = node.items()
    if kind in _REFERENCES:
        yield from _in_reference(value["refr"], names)
        if kind == "RefBrack":
            yield from _as_operand(value["index"], names)
    elif kind != "Var":
        yield from _as_operand(node, names)


def _in_reference(node: Any, names: set[str]) -> Iterator[Any]:  # noqa: ANN401 (JSON)
    ((kind, _),) = node.items()
    if kind in _REFERENCES or kind == "Var":
        yield from _in_term(node, names)
    else:
        yield from _as_operand(node, names)
