"""Tokens to a syntax tree. Source: the grammar of CEL's language definition (cel-spec doc/langdef.md)."""

from __future__ import annotations

from typing import Final

from mixer_py.expressions import limits
from mixer_py.expressions.faults import MistakeError
from mixer_py.expressions.syntax import (
    CHOICE,
    INDEX,
    NEGATION,
    Call,
    ListLiteral,
    Literal,
    MapLiteral,
    Name,
    Node,
    Select,
)
from mixer_py.expressions.tokens import RESERVED, Token, tokens

_LEVELS: Final = {
    "||": 1, "&&": 2,
    "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "in": 3,
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5,
}  # fmt: skip
"""Binary operators; the higher binds tighter, and all are read from the left."""
_TIGHTEST: Final = 6
_LOGICAL: Final = 2
_WORDS: Final = {"and": "&&", "or": "||", "not": "!", "is": "=="}
_LEAST: Final = -(1 << 63)


def parse(text: str) -> Node:
    """The syntax tree of a text.

    Raises:
        MistakeError: at the first place where the text is no expression, or at which it is too large.
    """
    if len(text) > limits.TEXT:
        raise MistakeError(limits.TEXT, f"the text is longer than {limits.TEXT:,} characters", "write a shorter one")
    return _Parser(text).whole()


class _Parser:
    """Recursive descent, with precedence climbing for binary operators."""

    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._next = next(self._tokens)
        self._depth = 0
        self._parts = 0

    def whole(self) -> Node:
        if self._at_end():
            raise MistakeError(0, "the expression is empty")
        node = self._expression()
        if not self._at_end():
            word = _WORDS.get(self._next.text, "")
            raise self._unexpected("an operator or the end", f"write {word}" if word else "")
        return node

    def _at_end(self) -> bool:
        return self._next.kind == "end"

    def _advance(self) -> Token:
        token = self._next
        self._next = next(self._tokens, token)
        self._parts += 1
        if self._parts > limits.PARTS:
            raise self._too_large(token)
        return token

    def _too_large(self, token: Token) -> MistakeError:
        return MistakeError(token.at, f"the expression has more than {limits.PARTS:,} parts", "write a smaller one")

    def _is(self, sign: str) -> bool:
        return self._next.kind == "sign" and self._next.text == sign

    def _take(self, sign: str) -> bool:
        if self._is(sign):
            self._advance()
            return True
        return False

    def _expect(self, sign: str, opened: Token | None = None) -> None:
        if not self._take(sign):
            raise self._unexpected(f"{sign!r}" + (f" for the {opened.text!r} before" if opened else ""))

    def _unexpected(self, wanted: str, way_out: str = "") -> MistakeError:
        found = f"{self._next.text[:40]!r}" if self._next.kind != "end" else "the end"
        return MistakeError(self._next.at, f"{wanted} is expected here, not {found}", way_out)

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > limits.NESTING:
            message = f"the expression is nested more than {limits.NESTING} levels deep"
            raise MistakeError(self._next.at, message, "write it flatter")
        condition = self._binary(1)
        if self._is("?"):
            at = self._advance().at
            yes = self._binary(1)
            self._expect(":")
            condition = Call(at, CHOICE, None, (condition, yes, self._expression()))
        self._depth -= 1
        return condition

    def _binary(self, lowest: int) -> Node:
        """Operators that bind at least as tightly as `lowest`; a chain of one logical operator is one node."""
        left = self._unary()
        while True:
            token = self._next
            level = _LEVELS.get(token.text, 0) if token.kind in {"sign", "name"} else 0
            if level < lowest or not level:
                return left
            operands = [left]
            while self._next.text == token.text and self._next.kind == token.kind:
                self._advance()
                operands.append(self._unary() if level + 1 == _TIGHTEST else self._binary(level + 1))
                if level > _LOGICAL:
                    break
            left = Call(token.at, token.text, None, tuple(operands))

    def _unary(self) -> Node:
        signs: list[Token] = []
        while self._is("!") or self._is("-"):
            signs.append(self._advance())
            if len(signs) > limits.NESTING:
                raise self._too_large(self._next)
        if signs and signs[-1].text == "-" and self._next.kind == "number":
            node = self._member(self._literal(signs.pop().at, negative=True))
        else:
            node = self._member(self._primary())
        for sign in reversed(signs):
            node = Call(sign.at, "!" if sign.text == "!" else NEGATION, None, (node,))
        return node

    def _member(self, node: Node) -> Node:
        """What stands behind an operand: `.field`, `.method(…)`, `[…]`."""
        while True:
            if self._take("."):
                field = self._advance()
                if field.kind != "name" or field.text in {"in", "true", "false", "null"}:
                    raise MistakeError(field.at, "the name of a field is expected behind the dot",
                                       'a field that is no word is written as ["…"]')  # fmt: skip
                if self._is("("):
                    node = Call(field.at, field.text, node, self._items(self._advance(), ")"))
                else:
                    node = Select(field.at, node, field.text)
            elif self._is("["):
                opening = self._advance()
                key = self._expression()
                self._expect("]", opening)
                node = Call(opening.at, INDEX, None, (node, key))
            else:
                return node

    def _items(self, opening: Token, closing: str) -> tuple[Node, ...]:
        """Expressions between commas; a last comma is allowed in lists only."""
        items: list[Node] = []
        while not self._is(closing):
            items.append(self._expression())
            if not self._take(","):
                break
            if closing == ")" and self._is(closing):
                raise self._unexpected("an argument")
        self._expect(closing, opening)
        return tuple(items)

    def _primary(self) -> Node:
        token = self._next
        if token.kind in {"number", "string"}:
            return self._literal(token.at, negative=False)
        if token.kind == "name":
            return self._name()
        if self._is("("):
            opening = self._advance()
            node = self._expression()
            self._expect(")", opening)
            return node
        if self._is("["):
            return ListLiteral(token.at, self._items(self._advance(), "]"))
        if self._is("{"):
            return self._map(self._advance())
        if self._is("."):
            raise MistakeError(token.at, "a name does not begin with a dot here", "leave the dot out")
        raise self._unexpected("a value")

    def _literal(self, at: int, *, negative: bool) -> Literal:
        token = self._advance()
        value = token.value
        if isinstance(value, str):
            return Literal(at, value)
        if negative:
            value = -value
        if isinstance(value, int) and not _LEAST <= value < -_LEAST:
            raise MistakeError(at, f"{token.text} does not fit into 64 bits", "write it with a point to have a double")
        return Literal(at, value)

    def _name(self) -> Node:
        token = self._advance()
        if token.text in {"true", "false"}:
            return Literal(token.at, token.text == "true")
        if token.text == "null":
            raise MistakeError(token.at, "null is not supported: nothing here is ever null",
                               'what may be absent is tested by has(a.b), or "key" in a.map')  # fmt: skip
        if token.text in RESERVED:
            raise MistakeError(token.at, f"{token.text!r} is a reserved word")
        if self._is("("):
            return Call(token.at, token.text, None, self._items(self._advance(), ")"))
        if self._is("{"):
            raise MistakeError(self._next.at, "messages are not supported", 'write a map: {"key": value}')
        return Name(token.at, token.text)

    def _map(self, opening: Token) -> MapLiteral:
        entries: list[tuple[Node, Node]] = []
        while not self._is("}"):
            key = self._expression()
            self._expect(":")
            entries.append((key, self._expression()))
            if not self._take(","):
                break
        self._expect("}", opening)
        return MapLiteral(opening.at, tuple(entries))
