"""Glob patterns as `glob.match` of OPA 1.22 reads them, matched in a time that no text can make explode.

The patterns are those of gobwas/glob 1.0: `*` is any run of characters that are no delimiters, `**` any run, `?` one
character that is no delimiter, `[abc]`, `[a-z]` and `[!a-z]` one character, `{a,b}` alternatives, and a backslash takes
the next character as it is. A class holds a list or one range; a negated one matches delimiters too.

A pattern becomes one of two things. A regular expression, where trying again cannot multiply: at most one star could
stop in several places, and nothing behind it varies. So are almost all patterns of policies. Any other becomes an
automaton whose states are the bits of a number; that is slower, and takes a text's length times the pattern's at worst.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_MOST_PATHS: Final = 32
"""Ways through a pattern's alternatives that a regular expression is left to try."""

Matcher = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class _One:
    """One character, as a regular expression; `literal` when it is a certain one."""

    expression: str
    literal: str = ""


@dataclass(frozen=True, slots=True)
class _Star:
    """Any number of characters, each as a regular expression; `anything` when they have no bounds."""

    expression: str
    anything: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """Alternatives."""

    branches: tuple[_Sequence, ...]


_Sequence = tuple[_One | _Star | _Group, ...]


def compile_glob(pattern: str, delimiters: str) -> Matcher:
    """What tells whether a text, all of it, matches a pattern; each character of `delimiters` is one.

    Raises:
        ValueError: it is no pattern.
    """
    sequence = _Parser(pattern, delimiters).parse()
    if _needs_no_automaton(sequence, delimiters):
        whole = re.compile(_expression(sequence, delimiters, last=True), re.DOTALL)
        return lambda text: whole.fullmatch(text) is not None
    return _Automaton(sequence).matches


class _Parser:
    """Reads a pattern once, from the left."""

    def __init__(self, pattern: str, delimiters: str) -> None:
        self._pattern = pattern
        self._position = 0
        self._any_but_delimiters = f"[^{re.escape(delimiters)}]" if delimiters else "."
        self._bounded = bool(delimiters)

    def parse(self) -> _Sequence:
        return self._sequence(inside=False)

    def _next(self) -> str:
        """The next character.

        Raises:
            ValueError: there is none, and what began must end.
        """
        if self._position == len(self._pattern):
            raise ValueError(f"the pattern {self._pattern!r} ends too early")
        self._position += 1
        return self._pattern[self._position - 1]

    def _peek(self) -> str:
        return self._pattern[self._position : self._position + 1]

    def _sequence(self, *, inside: bool) -> _Sequence:
        """Up to the end, or `inside` a group to the comma or brace that ends an alternative."""
        items: list[_One | _Star | _Group] = []
        while self._peek() if not inside else self._peek() not in {",", "}"}:
            match self._next():
                case "*" if self._peek() == "*":
                    self._next()
                    items.append(_Star(".", anything=True))
                case "*":
                    items.append(_Star(self._any_but_delimiters, not self._bounded))
                case "?":
                    items.append(_One(self._any_but_delimiters))
                case "[":
                    items.append(self._class())
                case "{":
                    items.append(self._group())
                case "\\":
                    items.append(_literal(self._next()))
                case character:
                    items.append(_literal(character))
        return tuple(items)

    def _group(self) -> _Group:
        branches = [self._sequence(inside=True)]
        while self._next() == ",":
            branches.append(self._sequence(inside=True))
        return _Group(tuple(branches))

    def _class(self) -> _One:
        negated = self._peek() == "!"
        if negated:
            self._next()
        first = self._next()
        if self._peek() == "-":  # the range's bounds cannot be escaped, not even the bracket
            self._next()
            last = self._next()
            if self._next() != "]" or last < first:
                raise ValueError(f"a class of the pattern {self._pattern!r} is neither a list nor a range")
            content = f"{re.escape(first)}-{re.escape(last)}"
        else:
            self._position -= 1
            content = re.escape(self._list())
        return _One(f"[{'^' if negated else ''}{content}]")

    def _list(self) -> str:
        characters = ""
        while (character := self._next()) != "]":
            characters += self._next() if character == "\\" else character
        if not characters:
            raise ValueError(f"a class of the pattern {self._pattern!r} is empty")
        return characters


def _literal(character: str) -> _One:
    return _One(re.escape(character), character)


def _stops_in_one_place(star: _Star, following: _Sequence, delimiters: str, *, last: bool) -> bool:
    """Whether a star can only stop where its run ends: at the text's end, or at the delimiter that must follow."""
    if not following:
        return last
    follower = following[0]
    return (
        not star.anything and isinstance(follower, _One) and follower.literal != "" and follower.literal in delimiters
    )


def _needs_no_automaton(sequence: _Sequence, delimiters: str) -> bool:
    if any(isinstance(item, _Group) for item in sequence):
        return _paths(sequence) <= _MOST_PATHS and _goes_straight(sequence, delimiters, last=True)
    for index, item in enumerate(sequence):
        following = sequence[index + 1 :]
        if isinstance(item, _Star) and not _stops_in_one_place(item, following, delimiters, last=True):
            end = following[-1]
            fixed = following[:-1] if isinstance(end, _Star) and end.anything else following
            return not any(isinstance(later, _Star) for later in fixed)
    return True


def _goes_straight(sequence: _Sequence, delimiters: str, *, last: bool) -> bool:
    """Whether no star, in groups neither, could stop in several places."""
    for index, item in enumerate(sequence):
        following = sequence[index + 1 :]
        if isinstance(item, _Star) and not _stops_in_one_place(item, following, delimiters, last=last):
            return False
        if isinstance(item, _Group):
            at_end = last and not following
            if not all(_goes_straight(branch, delimiters, last=at_end) for branch in item.branches):
                return False
    return True


def _paths(sequence: _Sequence) -> int:
    paths = 1
    for item in sequence:
        if isinstance(item, _Group):
            paths *= sum(_paths(branch) for branch in item.branches)
    return paths


def _expression(sequence: _Sequence, delimiters: str, *, last: bool) -> str:
    text = ""
    for index, item in enumerate(sequence):
        following = sequence[index + 1 :]
        if isinstance(item, _Group):
            at_end = last and not following
            branches = "|".join(_expression(branch, delimiters, last=at_end) for branch in item.branches)
            text += f"(?:{branches})"
        elif isinstance(item, _Star):
            possessive = _stops_in_one_place(item, following, delimiters, last=last)
            text += f"{item.expression}*{'+' if possessive else ''}"
        else:
            text += item.expression
    return text


class _Automaton:
    """States are numbered from the left; a character moves a state to the next, a star's to itself too."""

    def __init__(self, sequence: _Sequence) -> None:
        self._expressions: list[str | None] = []
        """What a character must be in a state; None in one that only leads to others."""
        self._stays = 0
        self._jumps: dict[int, list[int]] = {}
        self._add(sequence)
        self._final = 1 << len(self._expressions)
        self._reaches = [self._closure(state) for state in range(len(self._expressions) + 1)]
        self._accepting: dict[re.Pattern[str], int] = {}
        for state, expression in enumerate(self._expressions):
            if expression is not None:
                compiled = re.compile(expression, re.DOTALL)
                self._accepting[compiled] = self._accepting.get(compiled, 0) | 1 << state

    def _add(self, sequence: _Sequence) -> None:
        for item in sequence:
            if isinstance(item, _Group):
                self._add_group(item)
                continue
            state = len(self._expressions)
            self._expressions.append(item.expression)
            if isinstance(item, _Star):
                self._stays |= 1 << state
                self._jumps[state] = [state + 1]

    def _add_group(self, group: _Group) -> None:
        start, ends = len(self._expressions), []
        self._expressions.append(None)
        self._jumps[start] = []
        for branch in group.branches:
            self._jumps[start].append(len(self._expressions))
            self._add(branch)
            ends.append(len(self._expressions))
            self._expressions.append(None)
        for end in ends:
            self._jumps[end] = [len(self._expressions)]

    def _closure(self, state: int) -> int:
        """The states that are reached from a state without a character, itself among them."""
        found, pending = 0, [state]
        while pending:
            current = pending.pop()
            if not found >> current & 1:
                found |= 1 << current
                pending.extend(self._jumps.get(current, ()))
        return found

    def matches(self, text: str) -> bool:
        seen: dict[str, int] = {}
        states = self._reaches[0]
        for character in text:
            accepting = seen.get(character)
            if accepting is None:
                accepting = 0
                for expression, mask in self._accepting.items():
                    if expression.match(character) is not None:
                        accepting |= mask
                seen[character] = accepting
            accepted = states & accepting
            moved = (accepted & ~self._stays) << 1 | accepted & self._stays
            states = 0
            while moved:
                lowest = moved & -moved
                states |= self._reaches[lowest.bit_length() - 1]
                moved ^= lowest
            if not states:
                return False
        return states & self._final != 0
