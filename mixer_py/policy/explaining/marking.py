"""Put marks into modules, so that an evaluation tells how far it came in each body of a rule.

A mark is a call of an extension between two statements. Lines stay where they are. The engine evaluates the statements
of a body in their order, but waits with one whose variables are not known yet; so a mark after a unification takes the
variables of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mixer_py.policy.reference import join
from mixer_py.policy.rego.calls import module_imports, package_path
from mixer_py.policy.rego.negations import as_written
from mixer_py.policy.rego.trees import ref_path

MARK: Final = "mixer.mark"
"""The extension: number of the body, how many of its statements held, types of what it had to wait for."""
CASE: Final = "mixer.test_case"
"""The extension: number of the body, the parts of the case's name as JSON."""

_COMPREHENSIONS: Final = frozenset({"ArrayCompr", "SetCompr", "ObjectCompr"})
_QUOTES: Final = (b'"', b"`")
_BETWEEN: Final = re.compile(rb"(?:[\s;]|#[^\n]*)*")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a body: 1-based line, and its text on one line."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """One body of a rule.

    Attributes:
        rule: path of the rule as far as it is constant, `("data", "envoy", "authz", "allow")`.
        file: the module's path.
        line: 1-based line where the rule, or its `else`, begins.
        statements: what has to hold, in order.
    """

    rule: tuple[str, ...]
    file: str
    line: int
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Insertion:
    """Text to put in at a place, in bytes of the module's UTF-8 text; those of one place in their order.

    Attributes:
        start: the place.
        text: what to put in.
        removed: bytes that it takes the place of.
    """

    start: int
    text: str
    removed: int = 0


def rules_of(tree: Any) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 (the engine's syntax tree: JSON)
    """The rules of a module that are no defaults: path as far as it is constant, the package first, and node."""
    package = package_path(tree["ast"])
    for entry in tree["ast"]["rules"]:
        if "Spec" in entry:
            (head,) = entry["Spec"]["head"].values()
            yield (*package, *_constant_part(head["refr"])), entry["Spec"]


def _constant_part(node: Any) -> tuple[str, ...]:  # noqa: ANN401 (JSON)
    """The parts of a reference before the first that is not constant."""
    while (path := ref_path(node)) is None:
        ((_, content),) = node.items()
        node = content["refr"]
    return path


def bodies_of(path: tuple[str, ...], rule: Any, tree: Any) -> Iterator[tuple[Body, Any]]:  # noqa: ANN401 (JSON)
    """The bodies of a rule that have statements, each with its node."""
    source = tree["source"]
    text = source["contents"].encode()
    for index, body in enumerate(rule["bodies"]):
        statements = body["query"]["stmts"]
        if statements:
            line = rule["span"]["line"] if index == 0 else body["span"]["line"]
            yield Body(path, source["file"], line, tuple(_statements(body["query"], text))), body


def _statements(query: Any, text: bytes) -> Iterator[Statement]:  # noqa: ANN401 (JSON)
    places = places_of(query, text)
    written = as_written([" ".join(text[start:end].decode().split()) for start, end in places])
    for (start, _), statement in zip(places, written, strict=True):
        yield Statement(text.count(b"\n", 0, start) + 1, statement)


def places_of(query: Any, text: bytes) -> list[tuple[int, int]]:  # noqa: ANN401 (JSON)
    """Where each statement of a body starts and ends, in bytes.

    The engine tells a wrong start for one that begins with a text or an object, so it is sought after the one before.
    """
    position = query["span"]["start"]
    if _is_braced(query, text):
        position += 1
    elif text[position - 1 : position] in _QUOTES:
        position -= 1
    places = []
    for statement in query["stmts"]:
        start = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]
        end = statement["span"]["end"]
        position = end + 1 if text[end : end + 1] in _QUOTES and _opens(text[start:end]) else end
        places.append((start, position))
    return places


def _is_braced(query: Any, text: bytes) -> bool:  # noqa: ANN401 (JSON)
    """Whether a body stands in braces; one that is a single comprehension begins with a brace, too."""
    start = query["span"]["start"]
    return text[start : start + 1] == b"{" and query["stmts"][0]["span"]["start"] != start


def mark_body(number: int, body: Any, text: bytes) -> Iterator[Insertion]:  # noqa: ANN401 (JSON)
    """The marks of one body: one before each statement, and one after the last."""
    query = body["query"]
    braced = _is_braced(query, text)
    places = places_of(query, text)
    waits: list[str] = []
    for passed, (statement, (begin, _)) in enumerate(zip(query["stmts"], places, strict=True)):
        mark = _mark(number, passed, waits)
        yield Insertion(begin, f"{mark}; " if braced else f"{{ {mark}; ")
        waits.extend(_unified(statement))
    yield Insertion(places[-1][1], f"; {_mark(number, len(places), waits)}{'' if braced else ' }'}")


def insert(text: str, insertions: Sequence[Insertion]) -> str:
    """The text with all insertions."""
    source, pieces, position = text.encode(), [], 0
    for one in sorted(insertions, key=lambda insertion: insertion.start):
        pieces += [source[position : one.start], one.text.encode()]
        position = one.start + one.removed
    return b"".join([*pieces, source[position:]]).decode()


def _opens(part: bytes) -> bool:
    """Whether a quote in a part of a statement has no partner yet."""
    quote = 0
    escaped = False
    for letter in part:
        if escaped:
            escaped = False
        elif quote:
            escaped = letter == ord("\\") and quote == ord('"')
            quote = 0 if letter == quote else quote
        elif letter in b'"`':
            quote = letter
    return bool(quote)


def full_references(tree: Any) -> Iterator[Insertion]:  # noqa: ANN401 (JSON)
    """Names of imported packages, written out: of those the engine evaluates every rule, of others what is asked for.

    A name that a rule uses for a variable too is left as it is.
    """
    imports = {name: path for name, path in module_imports(tree).items() if path[0] == "data" and len(path) > 1}
    bases, others = _uses(tree)
    for base in bases:
        path = imports.get(base["value"])
        if path is not None and base["value"] not in others:
            start, end = base["span"]["start"], base["span"]["end"]
            yield Insertion(start, join(path[0], path[1:]), end - start)


def _uses(tree: Any) -> tuple[list[Any], set[str]]:  # noqa: ANN401 (JSON)
    """The names at which references of several parts begin, and those that stand by themselves."""
    text = tree["source"]["contents"].encode()
    bases: list[Any] = []
    others: set[str] = set()
    pending = [tree["ast"]["rules"]]
    while pending:
        current = pending.pop()
        if isinstance(current, list):
            pending.extend(current)
        elif isinstance(current, dict):
            for kind, value in current.items():
                if kind in {"RefDot", "RefBrack"}:
                    inner = value["refr"]
                    if "Var" in inner:
                        bases.append(inner["Var"])
                    pending.extend([value.get("index"), {} if "Var" in inner else inner])
                elif kind == "Var" and isinstance(value, dict):
                    others.add(value["value"])
                else:
                    if kind in {"vars", "key", "value"}:
                        others.update(_names(value, text))
                    pending.append(value)
    return bases, others


def _names(node: Any, text: bytes) -> Iterator[str]:  # noqa: ANN401 (JSON)
    """Names that `some x` and `every x in` declare; their nodes hold only where these stand in the text."""
    for one in node if isinstance(node, list) else [node]:
        if isinstance(one, dict) and "start" in one:
            yield text[one["start"] : one["end"]].decode()


def variables_of(node: Any) -> Iterator[str]:  # noqa: ANN401 (JSON)
    """Names of the variables in a node that stand by themselves: no functions, no bases of references."""
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, list):
            pending.extend(current)
        elif isinstance(current, dict):
            for kind, value in current.items():
                if kind == "Var" and isinstance(value, dict):
                    if value["value"] != "_":
                        yield value["value"]
                elif kind in {"RefDot", "RefBrack"}:
                    pending.append(value.get("index"))
                    if "Var" not in value["refr"]:
                        pending.append(value["refr"])
                elif kind == "Call":
                    pending.append(value["params"])
                elif kind not in _COMPREHENSIONS and isinstance(value, (dict, list)):
                    pending.append(value)


def _unified(statement: Any) -> Iterator[str]:  # noqa: ANN401 (JSON)
    expression = statement["literal"].get("Expr", {}).get("expr", {})
    if expression.get("AssignExpr", {}).get("op") == "Eq":
        yield from variables_of(expression)


def _mark(number: int, passed: int, waits: Sequence[str]) -> str:
    # Python could not be handed every value: it has no set of objects.
    kinds = ", ".join(f"type_name({name})" for name in dict.fromkeys(waits))
    return f"{MARK}({number}, {passed}, [{kinds}])"
