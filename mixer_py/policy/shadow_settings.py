"""The keys of `policy.shadow`: a candidate that decides a share of the live traffic beside the policies in force."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, field_validator

from mixer_py.policy.bundles.settings import BundlePath
from mixer_py.policy.selection_settings import DecisionPath
from mixer_py.settings import Duration, Settings

LONGEST_TIMEOUT: Final = 10.0
"""Seconds; rows wait for the candidate as long as that, in memory."""


class ShadowSettings(Settings):
    """A candidate, and how much it sees."""

    bundles: Annotated[tuple[BundlePath, ...], Field(min_length=1)]
    """The candidate's bundles, as `policy.bundles`."""
    decision: DecisionPath | None = None
    """The candidate's decision for every request; left out, `policy.decisions` and `policy.decision` hold for it."""
    share: float = Field(default=0.1, ge=0, le=1)
    """Share of the checks that it decides too, drawn for each check."""
    timeout: Duration = 1.0
    """How long the row of a check waits for the candidate's verdict; the check itself never waits."""
    queue: int = Field(default=1000, ge=1, le=100_000)
    """Checks of one worker that may wait for it; more are not handed to it, and counted."""

    @field_validator("timeout")
    @classmethod
    def _timeout_is_bounded(cls, value: float) -> float:
        if not 0 < value <= LONGEST_TIMEOUT:
            raise ValueError(f"timeout must be above 0 and at most {LONGEST_TIMEOUT:g}s, because rows wait for it")
        return value
