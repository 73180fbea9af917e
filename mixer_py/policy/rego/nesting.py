"""What a module may nest, judged before the engine's parser sees it: in there nothing can stop it, and its stack ends.

Two things grow with nesting. How often the parser reads: it takes what follows a `[` or a `{` for the head of a
comprehension, and reads it again when it was none; it reads a statement of a query twice, in case it assigns. So the
first elements of arrays, sets and objects are read twice as often for each bracket around them, closed or not, and
forty brackets keep it busy for days. And how deep its trees are: calls, references, signs and operators nest without
that; by the thousands they end the process.

Nothing is parsed here: grammar and balance are the engine's to judge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mixer_py.errors import Fault, PolicyLoadError

MAX_READS: Final = 1 << 20
"""How often brackets may be read in one module, all together; that is about a second."""
READS_OF_A_LETTER: Final = 4
"""Reads that each letter of a module earns it when that is more, so that a list may be of any length."""
MAX_DEPTH: Final = 128
"""Brackets, operators and parts of references within one another."""

_BLANK: Final = r"(?:\s|\#[^\n]*)*"
_TOKEN: Final = re.compile(
    rf"""
    (?P<text>"(?:[^"\\\n]|\\.)*"? | `[^`]*`? | \#[^\n]*)
    | (?P<open>[\[{{(])
    | (?P<close>[\]}})])
    | (?P<bar>\|)
    | (?P<comma>,{_BLANK})
    | (?P<end>;|\n{_BLANK}|\belse\b)
    | (?P<operator>(?:\bin\b|[.+*/%&-]|[<>=!:]=|[<>=]){_BLANK})
    """,
    re.VERBOSE,
)
_FIRST: Final = {"[": 2, "{": 2, "(": 1}
"""How often the parser reads what stands first in a bracket."""
_AFTER_BAR: Final = 3
"""How often it reads what follows a `|`: as a statement twice, and as the second operand of a union."""
_WAY_OUT: Final = "close the brackets that are open before it, or give inner parts rules of their own"


@dataclass(slots=True)
class _Bracket:
    """A bracket that is open, or the module itself.

    Attributes:
        times: how often the parser reads it.
        first: and how many times as often what stands first in it.
        above: what there is within one another around it, itself included.
        chain: operators and parts of references since the last comma, or the last end of a statement.
        deepest: what is within one another in the brackets since then.
        most: the same of all that came before.
    """

    times: int
    first: int
    above: int
    chain: int = 0
    deepest: int = 0
    most: int = 0

    def separate(self) -> None:
        """Another element or statement begins."""
        self.most, self.chain, self.deepest = self.depth(), 0, 0

    def depth(self) -> int:
        """What is within one another in it."""
        return max(self.most, self.chain + self.deepest)


class _Scan:
    """Goes through a module once.

    Attributes:
        reads: how often brackets are read, so far.
        depth: what is within one another where it is, whether it is closed or not.
    """

    def __init__(self) -> None:
        self.reads, self.depth = 0, 0
        self._inmost = _Bracket(1, 1, 0)
        self._around: list[_Bracket] = []
        self._times = 1  # how often the parser reads what comes next
        self._ended = -1  # where the line behind an end begins, as long as it may still go on

    def take(self, found: re.Match[str]) -> None:
        """Takes the next token."""
        kind, bracket = found.lastgroup, self._inmost
        if self._ended >= 0:
            if kind != "operator" or found.start() != self._ended:  # else the statement goes on in another line
                bracket.separate()
            self._ended = -1
        if kind == "open":
            self._open(found[0])
        elif kind == "close":
            self._close()
        elif kind == "comma":
            bracket.separate()
            self._times = bracket.times * (_AFTER_BAR if bracket.first == _AFTER_BAR else 1)
        elif kind == "end":
            self._ended = found.end()
            self._times = bracket.times * bracket.first
        elif kind in {"operator", "bar"}:
            bracket.chain += 1
            self.depth = bracket.above + bracket.chain + bracket.deepest
            if kind == "bar" and bracket.first > 1:
                bracket.first = _AFTER_BAR
                self._times = bracket.times * _AFTER_BAR

    def _open(self, token: str) -> None:
        outside, first = self._inmost, _FIRST[token]
        outside.chain += outside.deepest > 0  # it may index what the bracket before it is part of, or call it
        self.depth = outside.above + outside.chain + 1
        self._around.append(outside)
        self._inmost = _Bracket(self._times, first, self.depth)
        if first > 1:
            self._times *= first
            self.reads += self._times

    def _close(self) -> None:
        if not self._around:
            return
        inside, self._inmost = self._inmost, self._around.pop()
        bracket, self._times = self._inmost, inside.times
        bracket.deepest = max(bracket.deepest, inside.depth() + 1)
        self.depth = bracket.above + bracket.chain + bracket.deepest


def check_nesting(text: str, file: str) -> None:
    """Refuse a module over which the parser would sit too long, or end the process.

    Args:
        text: the module, in whatever version of Rego, or anything else.
        file: the path that people know.

    Raises:
        PolicyLoadError: naming the line where it was too much.
    """
    most, scan = max(MAX_READS, READS_OF_A_LETTER * len(text)), _Scan()
    for found in _TOKEN.finditer(text):
        scan.take(found)
        if scan.reads > most or scan.depth > MAX_DEPTH:
            line = text.count("\n", 0, found.start()) + 1
            message = "nests too deeply: brackets, operators or references within one another up to here"
            raise PolicyLoadError([Fault(message, file, line, way_out=_WAY_OUT)])
