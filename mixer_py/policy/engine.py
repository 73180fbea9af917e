"""The seam behind which an engine evaluates Rego, and the watch that sees when it is busy. No engine lives here."""

from __future__ import annotations

from typing import Protocol


class Engine(Protocol):
    """Evaluates one rule of loaded policies. An engine belongs to the thread that made it."""

    tier: str
    """What evaluates, as `mixer_checks_total{tier}` names it."""

    def evaluate(self, input_json: str) -> object:
        """The decision's value for one input document, as JSON values.

        Raises:
            RequestParseError: the engine cannot read the input document (nested too deeply, a number out of range).
            UndefinedDecisionError: the decision is undefined for this input.
            EvaluationError: the policy failed, conflicted or made the engine panic.
        """


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
