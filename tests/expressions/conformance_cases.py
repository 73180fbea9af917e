"""CEL's own conformance cases, as they travel in its Go module, read. None is kept in this repository.

They are protocol buffers as text (`cel.expr.conformance.test.SimpleTestFile`) whose messages no Python package of ours
carries, so they are read as plain trees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_TOKEN: Final = re.compile(
    r"""(?:\s|\#[^\n]*)*(?:(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[^\s{}\[\]:,;"'<>]+)"""
    r"""|(?P<sign>[{}\[\]:,;<>]))(?:\s|\#[^\n]*)*"""
)
_ESCAPE: Final = re.compile(rb"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[xX][0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)

Tree = dict[str, list[Any]]
"""A message: the values of each field, in order; a value is a tree, or the text that was written."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        name: file, section and name.
        text: the expression.
        wanted: its value as Python has it, `ERROR`, or `UNCOMPARABLE` when it is of a type that mixer does not have.
        needs: what the case gives to the expression that mixer cannot; empty when it gives nothing.
    """

    name: str
    text: str
    wanted: Any
    needs: str


ERROR: Final = object()
UNCOMPARABLE: Final = object()


def cases(module: Path) -> Iterator[Case]:
    """Every case of the module."""
    for path in sorted((module / "tests/simple/testdata").glob("*.textproto")):
        for section in _read(path.read_text(encoding="utf-8")).get("section", []):
            for test in section.get("test", []):
                yield _case(f"{path.stem}/{section['name'][0]}/{test['name'][0]}", test)


def _case(name: str, test: Tree) -> Case:
    given = [field for field in ("bindings", "type_env", "container", "locale") if field in test]
    if "eval_error" in test or "any_eval_errors" in test:
        wanted: Any = ERROR
    elif "value" in test:
        wanted = _value(test["value"][0])
    elif "typed_result" in test:
        wanted = _value(test["typed_result"][0]["result"][0]) if "result" in test["typed_result"][0] else UNCOMPARABLE
    elif "unknown" in test or "any_unknowns" in test:
        wanted = UNCOMPARABLE
    else:
        wanted = True
    return Case(name, test["expr"][0], wanted, ", ".join(given))


def _value(tree: Tree) -> Any:  # noqa: PLR0911 (one a kind)
    ((kind, (written,)),) = tree.items()
    match kind:
        case "bool_value":
            return written == "true"
        case "int64_value":
            return int(written, 0)
        case "double_value":
            return float(written)
        case "string_value":
            return written
        case "list_value":
            return _whole([_value(item) for item in written.get("values", [])])
        case "map_value":
            entries = written.get("entries", [])
            keys = _whole([_value(entry["key"][0]) for entry in entries])
            values = _whole([_value(entry["value"][0]) for entry in entries])
            return UNCOMPARABLE if UNCOMPARABLE in (keys, values) else dict(zip(keys, values, strict=True))
        case _:
            return UNCOMPARABLE


def _whole(values: list[Any]) -> Any:
    return UNCOMPARABLE if any(value is UNCOMPARABLE for value in values) else values


def _read(text: str) -> Tree:
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None, text[position : position + 80]
        kind = match.lastgroup
        assert kind is not None
        tokens.append((kind, match[kind]))
        position = match.end()
    tokens.append(("sign", "}"))
    tree, rest = _message(tokens, 0)
    assert rest == len(tokens)
    return tree


def _message(tokens: list[tuple[str, str]], at: int) -> tuple[Tree, int]:
    """Fields up to the closing brace, and what stands behind it."""
    tree: Tree = {}
    while tokens[at] not in {("sign", "}"), ("sign", ">")}:
        if tokens[at] in {("sign", ","), ("sign", ";")}:
            at += 1
            continue
        name = tokens[at][1]
        at += 1
        if name == "[":  # the name of an extension, or of the type of an Any
            while tokens[at] != ("sign", "]"):
                name += tokens[at][1]
                at += 1
            at += 1
        if tokens[at] == ("sign", ":"):
            at += 1
        if tokens[at] == ("sign", "["):
            at += 1
            while tokens[at] != ("sign", "]"):
                value, at = _scalar_or_message(tokens, at)
                tree.setdefault(name, []).append(value)
                at += tokens[at] == ("sign", ",")
            at += 1
        else:
            value, at = _scalar_or_message(tokens, at)
            tree.setdefault(name, []).append(value)
    return tree, at + 1


def _scalar_or_message(tokens: list[tuple[str, str]], at: int) -> tuple[Any, int]:
    if tokens[at] in {("sign", "{"), ("sign", "<")}:
        return _message(tokens, at + 1)
    if tokens[at][0] != "string":
        return tokens[at][1], at + 1
    parts = bytearray()
    while tokens[at][0] == "string":
        parts += _ESCAPE.sub(_unescape, tokens[at][1][1:-1].encode())
        at += 1
    return parts.decode("utf-8", "replace"), at


def _unescape(match: re.Match[bytes]) -> bytes:
    written = match[1].decode()
    if written[0] in "uU":
        return chr(int(written[1:], 16)).encode()
    if written[0] in "xX":
        return bytes((int(written[1:], 16),))
    if written[0].isdigit():
        return bytes((int(written, 8),))
    plain = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
    return plain.get(written, written).encode()
