"""The case folders of the rate limit service: what stands in one, and how an answer is held against it.

`tests/cases/rate_limit/<name>/` holds `config.yaml`, or a folder `config/`, and `requests.json`: a list of steps, each
with a `request` (RateLimitRequest), before it perhaps `advance` (a duration), and what is wanted: `want`, a part of the
RateLimitResponse (null: absent), or `error` with `status` and a part of the `message`. All messages are protojson.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

from mixer_py.settings import parse_duration

CASES = Path(__file__).parents[1] / "cases" / "rate_limit"


@dataclass(frozen=True, slots=True)
class Step:
    request: Any
    advance: float
    want: dict[str, Any] | None
    error: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    config: Path
    steps: tuple[Step, ...]

    @property
    def moves_the_clock(self) -> bool:
        """Such a case, and the resets of any other, can only be held against a clock of our own."""
        return any(step.advance for step in self.steps)


def load_cases() -> list[Case]:
    return [_load(folder) for folder in sorted(CASES.iterdir())]


def _load(folder: Path) -> Case:
    config = folder / "config.yaml"
    steps = json.loads((folder / "requests.json").read_text(encoding="utf-8"))
    return Case(folder.name, config if config.exists() else folder / "config", tuple(map(_step, steps)))


def _step(step: dict[str, Any]) -> Step:
    unknown = step.keys() - {"request", "advance", "want", "error"}
    if unknown or ("want" in step) == ("error" in step):
        raise ValueError(f"a step has a request and either want or error, not {sorted(step)}")
    return Step(
        ParseDict(step["request"], rls_pb2.RateLimitRequest()),
        parse_duration(step["advance"]) if "advance" in step else 0.0,
        step.get("want"),
        step.get("error"),
    )


def differences(response: Any, want: dict[str, Any], *, resets: bool = True) -> list[str]:
    """Where the answer is not as wanted; `resets` says whether durations until reset are compared."""
    got = MessageToDict(response, always_print_fields_with_no_presence=True)
    return list(_differences(got, want, "response", resets))


def _differences(got: Any, want: Any, place: str, resets: bool) -> Any:
    if isinstance(want, dict) and isinstance(got, dict):
        for name, value in want.items():
            if name != "durationUntilReset" or resets or value is None:
                yield from _differences(got.get(name), value, f"{place}.{name}", resets)
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for index, (one, other) in enumerate(zip(got, want, strict=True)):
            yield from _differences(one, other, f"{place}[{index}]", resets)
    elif got != want:
        yield f"{place}: wanted {want!r}, got {got!r}"
