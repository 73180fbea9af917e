"""`numbers.range_step` and `semver.is_valid`: the engine panics, or has no answer, where OPA 1.22 has one."""

from __future__ import annotations

import re
from typing import Final

from mixer_py.policy.builtins.operands import integer

_MOST: Final = 10_000_000
_NUMBER: Final = r"(?:0|[1-9][0-9]*)"
_IDENTIFIERS: Final = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION: Final = re.compile(
    rf"v?(?P<numbers>{_NUMBER}\.{_NUMBER}\.{_NUMBER})(?:-(?P<release>{_IDENTIFIERS}))?(?:\+{_IDENTIFIERS})?"
)
_LEADING_ZERO: Final = re.compile(r"(?:^|\.)0[0-9]+(?:\.|$)")
_LARGEST: Final = 2**63 - 1


def range_step(first: object, last: object, step: object) -> list[int]:
    """`numbers.range_step(a, b, step)`, up or down to `b`; more elements than memory is good for are an error."""
    start, end, distance = integer(first), integer(last), integer(step)
    if distance <= 0:
        raise ValueError("the step must be positive")
    numbers = range(start, end + 1, distance) if start <= end else range(start, end - 1, -distance)
    if len(numbers) > _MOST:
        raise ValueError("too many numbers")
    return list(numbers)


def is_version(text: object) -> bool:
    """`semver.is_valid(x)`; what is no string is no version."""
    found = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if found is None or any(int(part) > _LARGEST for part in found["numbers"].split(".")):
        return False
    return found["release"] is None or _LEADING_ZERO.search(found["release"]) is None
