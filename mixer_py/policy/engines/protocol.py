"""The seam behind which an engine evaluates Rego, and the watch that sees when it is busy. No engine lives here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from mixer_py.policy.rego.reads import Reads


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an engine made of one input document.

    Attributes:
        text: the decision's value in an array, as JSON; equal texts are equal values.
        tier: what evaluated, as `mixer_checks_total{tier}` names it.
    """

    text: str
    tier: str

    @property
    def value(self) -> object:
        """The decision's value, as JSON values; read from the text each time."""
        values: list[object] = orjson.loads(self.text)
        return values[0]


class Engine(Protocol):
    """Evaluates the decisions of loaded policies. An engine belongs to the thread that made it."""

    tier: str
    """What evaluates when nothing stands in its way."""

    def tier_of(self, decision: str) -> str:
        """What evaluates one decision when nothing stands in its way."""

    def reads(self, decision: str) -> Reads:
        """What a decision, named by its path, can read."""

    async def evaluate(self, decision: str, input_json: str) -> Evaluation:
        """A decision's value for one input document.

        Args:
            decision: its path, one of those that the engine was made for.
            input_json: the input document, or the part of it that `reads` names.

        Raises:
            RequestParseError: the engine cannot read the input document (nested too deeply, a number out of range).
            UndefinedDecisionError: the decision is undefined for this input.
            EvaluationError: the policy failed, conflicted, made the engine panic, or the engine is away.
        """

    def describe(self) -> dict[str, Any]:
        """What people should know of it, for `/policies`: packages, and what a builtin's error is."""

    def open(self) -> None:
        """Begins what it does besides evaluations; called in the event loop once it is in use, if at all."""

    async def close(self) -> None:
        """Ends that, and gives back what it holds, once the evaluations that run have ended."""


class EvaluationWatch(Protocol):
    """Told when an evaluation begins and ends, so that one that never ends is seen from outside."""

    def begin(self) -> None:
        """An evaluation begins."""

    def end(self) -> None:
        """It ended, in whatever way."""


class NoWatch:
    """Nobody watches: for offline decisions and tests."""

    __slots__ = ()

    def begin(self) -> None:
        """Nothing to stamp."""

    def end(self) -> None:
        """Nothing to stamp."""
