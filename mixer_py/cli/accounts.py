"""How a decision came about, and what it is charged for, as lines for people and as JSON: `mixer check --explain`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mixer_py.policy.engines.embedded import INTERPRETER
from mixer_py.policy.explaining.account import Account, Read
from mixer_py.policy.explaining.held import RuleTrace
from mixer_py.policy.reference import join
from mixer_py.ratelimit.quotas.charging import Measured
from mixer_py.ratelimit.quotas.quota import Quota

_MICROSECONDS = 1e6
_STOPPED = "the engine's virtual machine did not finish this request, so it was evaluated again"
_SHOWN = 50
"""Bodies of rules that a person is shown of each kind."""


def account_lines(account: Account, tier: str, first: float) -> Iterator[str]:
    """One thing a line, its kind first.

    Args:
        account: what is to be told.
        tier: what evaluated.
        first: seconds that the check took.
    """
    for held in (True, False):
        traces = [trace for trace in account.rules or () if (trace.stopped is None) == held]
        yield from map(_rule_line, traces[:_SHOWN])
        if len(traces) > _SHOWN:
            yield f"{'' if held else 'not '}held".ljust(13) + f"{len(traces) - _SHOWN} more, which --format json tells"
    yield from (f"printed      {line}" for line in account.prints)
    yield from (_read_line(read) for read in account.reads or ())
    point = account.point
    if point is not None:
        if account.reads is None:
            yield "read         input as a whole"
        why = account.why_tier or (_STOPPED if tier != point.tier and tier == INTERPRETER else "")
        yield f"tier         {tier}{f': {why}' if why else ''}"
        yield f"cache        {_cache_words(account)}"
    times = [("first", first), ("again", account.again), ("from the cache", account.cached)]
    yield "time         " + ", ".join(f"{name} {seconds * _MICROSECONDS:.0f} µs" for name, seconds in times if seconds)


def account_document(account: Account, first: float) -> dict[str, Any]:
    """As JSON; times are seconds."""
    point = account.point
    return {
        "rules": None if account.rules is None else [_rule_document(trace) for trace in account.rules],
        "prints": list(account.prints),
        "reads": None if account.reads is None else [_read_document(read) for read in account.reads],
        "usual_tier": None if point is None else point.tier,
        "why_tier": account.why_tier,
        "cacheable": point is not None and point.cacheable,
        "cached": point is not None and point.cached,
        "why_not_cached": "" if point is None else point.why,
        "seconds": {"first": first, "again": account.again, "cached": account.cached},
    }


def _rule_line(trace: RuleTrace) -> str:
    body = trace.body
    where = f"{join(body.rule[0], body.rule[1:])}  {body.file}:{body.line}"
    if trace.stopped is None:
        return f"held         {where}"
    return f"not held     {where}, stopped at line {trace.stopped.line}: {trace.stopped.text}"


def _rule_document(trace: RuleTrace) -> dict[str, Any]:
    body, stopped = trace.body, trace.stopped
    return {
        "rule": join(body.rule[0], body.rule[1:]),
        "file": body.file,
        "line": body.line,
        "held": stopped is None,
        "stopped": None if stopped is None else {"line": stopped.line, "expression": stopped.text},
    }


def _read_line(read: Read) -> str:
    value = json.dumps(read.value, ensure_ascii=False) if read.present else "absent"
    return f"read         {read.reference}: {value}"


def _read_document(read: Read) -> dict[str, Any]:
    return {"reference": read.reference, "present": read.present, "value": read.value}


def _cache_words(account: Account) -> str:
    point = account.point
    if point is None or not point.cached:
        why = "" if point is None else point.why
        return f"not used: {why or 'the settings switch it off'}"
    return f"key {json.dumps(point.key, ensure_ascii=False)}"


def quota_lines(measured: Measured | None) -> Iterator[str]:
    """What a check is charged for, one quota a line; None charges nothing."""
    for quota, charge, key in () if measured is None else measured.matched:
        counted = f" for {json.dumps(key, ensure_ascii=False)}" if key else ""
        mode = ", in shadow mode" if quota.shadow else ""
        limit = f"{' '.join(quota.settings.limit.split())}, {quota.settings.algorithm}"
        yield f"quota        {quota.name}: {charge.hits} of {limit}{counted}{mode}"
    for one in () if measured is None else measured.failed:
        consequence = "denied" if one.denies and not one.quota.shadow else "not charged"
        yield f"quota        {one.quota.name}: {consequence}, its {one.part} has no value: {one.reason}"


def quota_documents(measured: Measured | None) -> list[dict[str, Any]]:
    """As JSON; `error` is null where it is known what to charge."""
    if measured is None:
        return []
    matched = [
        _quota_document(quota) | {"key": list(key), "hits": charge.hits, "error": None}
        for quota, charge, key in measured.matched
    ]
    failed = [
        _quota_document(one.quota) | {"key": None, "hits": None, "error": f"{one.part}: {one.reason}"}
        for one in measured.failed
    ]
    return matched + failed


def _quota_document(quota: Quota) -> dict[str, Any]:
    settings = quota.settings
    return {
        "name": quota.name, "limit": settings.limit, "algorithm": settings.algorithm, "shadow": quota.shadow
    }  # fmt: skip
