"""What a decision reads: the part of the input document that can change it, and whether more than that can.

By static analysis of everything that the decision's rule can reach. It may say too much, never too little: a field that
is wrongly left out is undefined to the policy, and `not input.x` is then true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from mixer_py.policy.rego.reads_references import Path
from mixer_py.policy.rego.reads_rules import InputRead, RuleFacts, VaryingCall, read_rules


@dataclass(frozen=True, slots=True)
class Reads:
    """What one decision can read.

    Attributes:
        input: paths of the input document, `("attributes", "request", "http", "method")`, each with everything below
            it; None when it may be any, so that the whole document is needed.
        cacheable: whether equal values at these paths always make an equal decision, within a revision.
        why: why the whole input is needed, or why the decision cannot be cached, with file and line; empty when
            neither is so.
    """

    input: frozenset[tuple[str, ...]] | None
    cacheable: bool
    why: str = ""


Place = TypeVar("Place", InputRead, VaryingCall)

EVERYTHING: Final = Reads(None, cacheable=False, why="what the policy reads is not known")


def find_reads(trees: Sequence[Any], decision: str) -> Reads:
    """What a decision can read, by the syntax trees of all modules.

    Args:
        trees: of every module that can take part, as the engine gives them.
        decision: path of the rule, as `envoy/authz/allow`.
    """
    return ReadAnalysis(trees).reads(decision)


@dataclass(slots=True)
class _Node:
    """The rules at one path, and the paths below it."""

    rules: list[RuleFacts] = field(default_factory=list)
    children: dict[str, _Node] = field(default_factory=dict)

    def below(self) -> Iterator[RuleFacts]:
        """The rules here and at every path below."""
        pending = [self]
        while pending:
            node = pending.pop()
            yield from node.rules
            pending.extend(node.children.values())


class ReadAnalysis:
    """The rules of all modules by their paths, of which each decision reaches some."""

    def __init__(self, trees: Sequence[Any]) -> None:
        """Reads the rules of `trees`, the syntax trees of all modules, once for all decisions."""
        self._root = _Node()
        for rule in read_rules(trees):
            node = self._root
            for part in rule.path:
                node = node.children.setdefault(part, _Node())
            node.rules.append(rule)

    def input_reads(self) -> Iterator[InputRead]:
        """Every place in all modules that reads the input, so that one may ask whether what it reads exists."""
        for rule in self._root.below():
            yield from rule.reads

    def places(self, decision: str) -> list[InputRead]:
        """Every place at which one decision can read the input; see `reads`."""
        return self._reach(("data", *decision.strip("/").split("/")))[0]

    def reads(self, decision: str) -> Reads:
        """What one decision can read.

        Args:
            decision: path of the rule, as `envoy/authz/allow`.
        """
        reads, varying = self._reach(("data", *decision.strip("/").split("/")))
        whole = _first(read for read in reads if not read.path)
        call = _first(varying)
        why = []
        if whole is not None:
            why.append(f"{whole.place}: reads `input` as a whole, or by a name that is not constant")
        if call is not None:
            why.append(f"{call.place}: the answer of {call.builtin} is not always the same")
        paths = None if whole is not None else _widest(read.path for read in reads)
        return Reads(paths, cacheable=not why, why="; ".join(why))

    def _reach(self, start: Path) -> tuple[list[InputRead], list[VaryingCall]]:
        """What is read by everything that a reference leads to."""
        reads: list[InputRead] = []
        varying: list[VaryingCall] = []
        references, reached = {start}, set[int]()
        pending = [start]
        while pending:
            for rule in self._meant(pending.pop(), reads):
                if id(rule) not in reached:
                    reached.add(id(rule))
                    reads.extend(rule.reads)
                    varying.extend(rule.varying)
                    pending.extend(rule.references - references)
                    references |= rule.references
        return reads, varying

    def _meant(self, reference: Path, reads: list[InputRead]) -> Iterator[RuleFacts]:
        """The rules whose values a reference may be, may be within, or may hold; aliases go straight to `reads`."""
        node = self._root
        for depth, part in enumerate(reference):
            if depth and len(node.rules) == 1 and (alias := node.rules[0].alias) is not None:
                read = node.rules[0].reads[0]
                reads.append(InputRead((*alias, *reference[depth:]), read.file, read.line))
            else:
                yield from node.rules
            below = node.children.get(part)
            if below is None:
                return
            node = below
        yield from node.below()


def _first(found: Iterable[Place]) -> Place | None:
    """The one whose file and line come first, so that the reason given does not depend on the order of rules."""
    return min(found, key=lambda one: (one.file, one.line), default=None)


def _widest(paths: Iterable[Path]) -> frozenset[Path]:
    """The paths without those that are below another."""
    every = set(paths)
    return frozenset(path for path in every if not any(path[:depth] in every for depth in range(len(path))))
