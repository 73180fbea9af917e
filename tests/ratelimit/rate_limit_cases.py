"""The case folders of the rate limit service: what stands in one, and how an answer is held against it.

`tests/cases/rate_limit/<name>/` holds `config.yaml`, or a folder `config/`, perhaps `settings.yaml` with keys of
`rate_limit`, and `requests.json`: a list of steps, each with a `request` (RateLimitRequest), before it perhaps
`advance` (a duration), and what is wanted: `want`, a part of the RateLimitResponse (null: absent), or `error` with
`status` and a part of the `message`. All messages are protojson, with
`isNegativeHits`. `envoy` is what a client of Envoy sees: headers by
their names in small letters, null for one that is not there. A `#` in a wanted text stands for a number.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
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
    envoy: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    config: Path
    settings: dict[str, Any]
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
    return Case(
        folder.name,
        config if config.exists() else folder / "config",
        settings_of(folder),
        tuple(map(_step, steps)),
    )


def settings_of(folder: Path) -> dict[str, Any]:
    """The case's own keys of `rate_limit`."""
    path = folder / "settings.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _step(step: dict[str, Any]) -> Step:
    unknown = step.keys() - {"request", "advance", "want", "error", "envoy"}
    if unknown or ("want" in step) == ("error" in step):
        raise ValueError(f"a step has a request and either want or error, not {sorted(step)}")
    return Step(
        request_of(step["request"]),
        parse_duration(step["advance"]) if "advance" in step else 0.0,
        step.get("want"),
        step.get("error"),
        step.get("envoy", {}),
    )


def request_of(request: dict[str, Any]) -> Any:
    """The RateLimitRequest of protojson, with `isNegativeHits` in descriptors, which is newer than our protos."""
    plain = copy.deepcopy(request)
    descriptors = plain.get("descriptors", ())
    negative = [descriptor.pop("isNegativeHits", False) for descriptor in descriptors]
    message = ParseDict(plain, rls_pb2.RateLimitRequest())
    for descriptor, gives_back in zip(message.descriptors, negative, strict=True):
        if gives_back:
            descriptor.MergeFromString(b"\x20\x01")
    return message


def fits(wanted: object, got: object) -> bool:
    """Whether a value is as wanted; `#` in a text stands for a number."""
    if isinstance(wanted, str) and isinstance(got, str) and "#" in wanted:
        return re.fullmatch(r"\d+".join(map(re.escape, wanted.split("#"))), got) is not None
    return got == wanted


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
    elif not fits(want, got):
        yield f"{place}: wanted {want!r}, got {got!r}"
