"""Compiled rules as people read them: as JSON and as the original's text. Not for: HTTP (`admin/`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixer_py.ratelimit.algorithms import FIXED_WINDOW, SECOND
from mixer_py.ratelimit.lease_bounds import describe_bounds, describe_over_admission
from mixer_py.settings import format_duration

if TYPE_CHECKING:
    from mixer_py.ratelimit.rules import Rule


def describe(rule: Rule) -> dict[str, object]:
    """Everything that a rule says, each value fit for JSON."""
    return {
        "rule": rule.name,
        "domain": rule.domain,
        "descriptors": [_level(rule, level) for level in range(len(rule.path))],
        "name": rule.limit_name,
        "unit": rule.unit,
        "window": _window(rule),
        "requests_per_unit": rule.requests_per_unit,
        "algorithm": rule.algorithm,
        "burst": rule.burst,
        "lease": rule.lease,
        "overdraw": rule.overdraw,
        "lease_bounds": describe_bounds(rule.terms, rule.lease) if rule.lease else {},
        "unlimited": rule.unlimited,
        "shadow_mode": rule.shadow_mode,
        "quota_mode": rule.quota_mode,
        "metadata": rule.metadata,
        "replaces": sorted(rule.replaces),
        "place": rule.place,
    }


def _level(rule: Rule, level: int) -> dict[str, object]:
    key, value = rule.path[level]
    described: dict[str, object] = {"key": key}
    if value:
        described["value"] = value
    if level in rule.share:
        described["share_threshold"] = True
    if level in rule.valued:
        described["value_to_metric"] = True
    return described


def dump(rule: Rule) -> str:
    """A line in the form of the original's `/rlconfig`; what goes beyond it is there only where a rule uses it."""
    beyond = {
        "unlimited": rule.unlimited,
        "quota_mode": rule.quota_mode,
        "window": "" if rule.unit else _window(rule),
        "algorithm": "" if rule.algorithm == FIXED_WINDOW else rule.algorithm,
        "burst": "" if rule.burst == rule.requests_per_unit else rule.burst,
        "lease": rule.lease,
        "overdraw": rule.overdraw,
        "over_admission": describe_over_admission(rule.terms, rule.lease) if rule.lease else "",
    }
    key = ".".join((rule.domain, *(f"{key}_{value}" if value else key for key, value in rule.path)))
    return (
        f"{key}: unit={rule.unit or 'UNKNOWN'} requests_per_unit={rule.requests_per_unit}, "
        f"shadow_mode: {_text(rule.shadow_mode)}"
        f"{''.join(f', {name}: {_text(value)}' for name, value in beyond.items() if value)}\n"
    )


def _window(rule: Rule) -> str:
    return "" if rule.unlimited else format_duration(rule.window_us / SECOND)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
