"""The keys of `decision_log:` in a configuration: what a row keeps of a check, and what a full log means."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from mixer_py.settings import Duration, Settings, Size

PATH_ROOT = "/input/"
"""What every path to be masked begins with, as the paths of OPA's `system.log.mask` do."""


class MaskSettings(Settings):
    """What is never written; `system.log.mask` of the policies comes on top."""

    defaults: bool = True
    """Mask what docs/decision-log.md lists: credentials in headers, and values whose names look like a secret's."""
    headers: tuple[str, ...] = ()
    """Further headers whose values are masked, in any case."""
    query: tuple[str, ...] = ()
    """Further query parameters and form fields whose values are masked, in any case."""
    paths: tuple[str, ...] = ()
    """Further places in the input, such as `/input/parsed_body/card/number`; `*` is any one key or item."""

    @field_validator("paths")
    @classmethod
    def _paths_are_of_the_input(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if not path.startswith(PATH_ROOT) or not path.removeprefix(PATH_ROOT):
                raise ValueError(f"{path!r} is no path of the input; write it as /input/parsed_body/password")
        return paths


class DecisionLogSettings(Settings):
    """What is remembered of every check, in the table `decisions`."""

    input: bool = True
    """Keep the input document, masked, in the column `input`."""
    max_input: Size = Field(default=64 << 10, ge=1)
    """Bytes of an input document that is kept; of a larger one first the bodies are left out, then all of it."""
    mask: MaskSettings = MaskSettings()
    """What of the input is not shown."""
    sample: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the allowed checks that is kept, chosen by decision id. Denials and errors always are."""
    when_full: Literal["drop", "block", "deny"] = "drop"
    """When the rows in `telemetry.queue` leave no room: drop the oldest, make a check wait for up to `block` and then
    go on without a row, or deny what would have been let through without one. All are counted."""
    block: Duration = 0.05
    """How long a check waits for room with `when_full: block`; less than Envoy's own timeout, 200ms unless set."""
