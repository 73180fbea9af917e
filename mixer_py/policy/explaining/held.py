"""Which rules held for one request, and where the others stopped.

The policies are evaluated once more, with marks in the bodies of their rules, by an interpreter made for this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.explaining.interpreter import Watched, WatchedInterpreter, parse, tree_file
from mixer_py.policy.explaining.marking import (
    MARK,
    Body,
    Insertion,
    Statement,
    bodies_of,
    full_references,
    insert,
    mark_body,
    rules_of,
)
from mixer_py.policy.reference import reference

_ARGUMENTS: Final = 3


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """How far the evaluation came in one body of a rule, the best time that it was tried.

    Attributes:
        body: the rule's body.
        stopped: the statement that was false or undefined; None when the whole body held.
    """

    body: Body
    stopped: Statement | None


class Marks:
    """The extension that marks call: remembers the most statements that held in each body."""

    def __init__(self) -> None:
        self._passed: dict[int, int] = {}

    def __call__(self, number: int, passed: int, _: object) -> bool:
        """A mark: always true."""
        number, passed = int(number), int(passed)
        self._passed[number] = max(passed, self._passed.get(number, 0))
        return True

    def clear(self) -> None:
        """Forgets everything, before another evaluation."""
        self._passed.clear()

    def passed(self, number: int) -> int | None:
        """How many statements of a body held; None when it was never tried."""
        return self._passed.get(number)


def stopped_at(body: Body, passed: int) -> Statement | None:
    """The statement at which a body stopped; None when it held."""
    return body.statements[passed] if passed < len(body.statements) else None


def trace_rules(bundle: Bundle, decision: str, input_json: str) -> tuple[Watched, tuple[RuleTrace, ...]]:
    """The bodies that an evaluation tried, in order of files and lines.

    Args:
        bundle: the policies and their data.
        decision: path of the rule that is asked for.
        input_json: the input document.

    Raises:
        PolicyLoadError: the policies do not compile.
    """
    marks = Marks()
    modules, bodies = mark_rules(parse(bundle.modules))
    question = reference(decision)
    interpreter = WatchedInterpreter(modules, bundle.data_at([()]), [question], {MARK: (_ARGUMENTS, marks)})
    watched = interpreter.evaluate(question, input_json, marks.clear)
    tried = ((body, marks.passed(number)) for number, body in enumerate(bodies))
    traces = [RuleTrace(body, stopped_at(body, passed)) for body, passed in tried if passed is not None]
    return watched, tuple(sorted(traces, key=lambda trace: (trace.body.file, trace.body.line)))


def mark_rules(trees: Sequence[Any]) -> tuple[list[Module], list[Body]]:
    """Modules with marks in every body, and the bodies by their numbers."""
    bodies: list[Body] = []
    modules = []
    for tree in trees:
        source = tree["source"]["contents"]
        text = source.encode()
        insertions: list[Insertion] = []
        for path, rule in rules_of(tree):
            for body, node in bodies_of(path, rule, tree):
                insertions.extend(mark_body(len(bodies), node, text))
                bodies.append(body)
        insertions += full_references(tree)
        modules.append(Module(tree_file(tree), insert(source, insertions)))
    return modules, bodies
