"""The keys of `rate_limit.quotas`: limits that checks are charged for by their attributes, without descriptors.

Every fault is found here, expressions included, before any request. Not for: charging (`quotas/`).
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mixer_py.expressions.settings import Amount, Condition, Key, as_written
from mixer_py.ratelimit.algorithms import FIXED_WINDOW, SECOND, TOKEN_BUCKET, UNIT_SECONDS, Algorithm, Terms
from mixer_py.ratelimit.lease_bounds import describe_bounds
from mixer_py.settings import Settings, parse_duration

MOST_HITS: Final = 2**32 - 1
"""Of a limit, a burst and a charge."""
LONGEST_NAME: Final = 128
"""Characters of a quota's name, which stands in metadata, metrics and rows."""
LONGEST_WINDOW: Final = 10 * UNIT_SECONDS["YEAR"] * SECOND
"""Microseconds, as in rate limit files; the shortest is a second, because headers tell whole ones."""

_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LONGEST_NAME - 1}}}")
_LIMIT: Final = re.compile(r"\s*(\d{1,10})\s*/\s*(\S+)\s*")
_LEASE: Final = re.compile(r"\s*(\d{1,10}(?:\.\d{1,3}(?=\s*%))?)\s*(%?)\s*")


def parse_limit(text: str) -> tuple[int, int]:
    """Hits and microseconds from `100 / 1m`.

    Raises:
        ValueError: it is no limit.
    """
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no limit; write hits / window, as 100 / 1m")
    hits, window = int(match[1]), round(parse_duration(match[2]) * SECOND)
    if hits > MOST_HITS:
        raise ValueError(f"a limit is at most {MOST_HITS} hits; {hits} is more")
    if not SECOND <= window <= LONGEST_WINDOW:
        raise ValueError(
            f"a window is from 1s to {LONGEST_WINDOW // SECOND // UNIT_SECONDS['DAY']}d long; {match[2]} is not"
        )
    return hits, window


def parse_lease(text: str, most: int) -> int:
    """Hits from `100`, or from `10%` of what may come at once; at least 1.

    Raises:
        ValueError: it is neither, or no part of `most`.
    """
    match = _LEASE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no lease; write hits, as 100, or a part of the limit, as 10%")
    hits = most * float(match[1]) / 100 if match[2] else float(match[1])
    if not 0 < hits <= most:
        raise ValueError(f"a lease is from 1 hit to as many as come in at once, {most}; {text.strip()} is not")
    return max(int(hits), 1)


def _check_name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no name; write letters, digits, `_`, `.` and `-`, {LONGEST_NAME} at most")
    return value


def _check_limit(value: str) -> str:
    parse_limit(value)
    return value


class QuotaSettings(Settings):
    """A quota that checks are charged for."""

    name: Annotated[str, AfterValidator(_check_name)]
    """What metadata, metrics, rows and the policy's `quotas` call it; part of its counters' identity."""
    match: Annotated[Condition, BeforeValidator(as_written)] = "true"
    """Which checks are charged: a CEL expression that gives a bool. `false` for a quota that only policies name."""
    key: tuple[Key, ...] = ()
    """What is counted apart: CEL expressions that give text. Without any, all checks count together."""
    cost: Annotated[Amount, BeforeValidator(as_written)] = "1"
    """Hits of a check: a CEL expression that gives an int."""
    limit: Annotated[str, AfterValidator(_check_limit)]
    """Hits a window, as `100 / 1m`."""
    algorithm: Algorithm = FIXED_WINDOW
    """How hits are counted."""
    burst: int | None = Field(default=None, ge=1, le=MOST_HITS)
    """Hits that a token bucket holds; left out, as many as the limit."""
    lease: Annotated[str, BeforeValidator(as_written)] | None = None
    """Hits, or a part of the limit as `10%`, that a worker takes ahead where the store is shared."""
    shadow: bool = False
    """Count and tell, but never deny."""
    on_absent_key: Literal["empty", "skip", "deny"] = "empty"
    """When the check lacks what a key asks for: `empty` counts all such checks together, `skip` does not charge it,
    `deny` denies it."""
    on_expression_error: Literal["skip", "deny"] = "deny"
    """When an expression fails: `skip` does not charge the check, `deny` denies it."""

    @property
    def terms(self) -> Terms:
        """What hits are held against."""
        limit, window = parse_limit(self.limit)
        return Terms(self.algorithm, window, limit, limit if self.burst is None else self.burst)

    def describe(self) -> dict[str, object]:
        """Everything that it says, each value fit for JSON, for `/rlconfig`."""
        terms = self.terms
        lease = parse_lease(self.lease, terms.burst) if self.lease is not None else 0
        bounds = describe_bounds(terms, lease) if lease else {}
        return self.model_dump(mode="json") | {"burst": terms.burst, "lease": lease, "lease_bounds": bounds}

    @model_validator(mode="after")
    def _fits_together(self) -> QuotaSettings:
        if self.burst is not None and self.algorithm != TOKEN_BUCKET:
            raise ValueError(f"burst is for a token_bucket, and this is a {self.algorithm}; leave one of them out")
        if self.burst is not None and not self.terms.limit:
            raise ValueError("tokens never come back with a limit of 0; leave burst out, or raise the limit")
        if self.lease is not None:
            parse_lease(self.lease, self.terms.burst)
        return self


def check_names(quotas: tuple[QuotaSettings, ...]) -> tuple[QuotaSettings, ...]:
    """Refuses two quotas of one name: they would count together.

    Raises:
        ValueError: naming them.
    """
    first: dict[str, int] = {}
    for index, quota in enumerate(quotas):
        if quota.name in first:
            raise ValueError(
                f"quotas {first[quota.name]} and {index} are both called {quota.name!r}; give each a name of its own"
            )
        first[quota.name] = index
    return quotas
