"""A decision's value, decoded and validated: opa-envoy-plugin's result document, and what goes beyond it.

Beyond it are `reasons`, `cache_ttl` and `quotas`.

Fields that do not apply to the verdict are ignored and not validated, as they are there.
"""

from __future__ import annotations

from collections.abc import Mapping

from envoy.type.v3 import http_status_pb2

from mixer_py.errors import ResultError
from mixer_py.policy.decision import NO_METADATA, Decision, Pairs, QuotaAsked
from mixer_py.policy.headers import name_fault, value_fault
from mixer_py.settings import parse_duration

MOST_QUOTAS = 64
"""Quotas that one result may name; a counter is charged for each."""
MOST_HITS = 2**32 - 1

OWN_METADATA = "decision_id"
OWN_METADATA_PREFIX = "mixer_"

# Go's http.StatusText knows these and Envoy's StatusCode enum may not; both must know a status.
_GO_STATUSES = frozenset(
    {100, 101, 102, 103, *range(200, 209), 226, *range(300, 306), 307, 308, *range(400, 419), *range(421, 427)}
    | {428, 429, 431, 451, *range(500, 509), 510, 511}
)
STATUSES = _GO_STATUSES & frozenset(http_status_pb2.StatusCode.values())

_KINDS = {bool: "boolean", str: "string", int: "number", float: "number", list: "array", dict: "object"}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "null")


def _wrong(field: str, wanted: str, value: object) -> ResultError:
    return ResultError(f"result.{field}: must be {wanted}, but is of type {_kind(value)}")


def read_result(value: object, rule: str) -> Decision:
    """The decision that a result stands for.

    Args:
        value: JSON value of the decision's rule.
        rule: reference of that rule.

    Raises:
        ResultError: naming the field whose shape, type or header is wrong.
    """
    if value is True or value is False:
        return Decision(allowed=value, plain=True, rule=rule)
    if not isinstance(value, dict):
        raise ResultError(f"result: must be a boolean or an object, but is of type {_kind(value)}")
    if "allowed" not in value:
        raise ResultError("result.allowed: is missing")
    allowed = value["allowed"]
    if allowed is not True and allowed is not False:
        raise _wrong("allowed", "a boolean", allowed)
    metadata = _metadata(value["dynamic_metadata"]) if "dynamic_metadata" in value else NO_METADATA
    reasons = _reasons(value["reasons"]) if "reasons" in value else ()
    cache_ttl = _cache_ttl(value["cache_ttl"]) if "cache_ttl" in value else None
    if not allowed:
        return Decision(
            allowed=False,
            headers=_headers(value, "headers"),
            http_status=_status(value["http_status"]) if "http_status" in value else 403,
            body=_body(value["body"]) if "body" in value else "",
            dynamic_metadata=metadata,
            reasons=reasons,
            rule=rule,
            cache_ttl=cache_ttl,
        )
    return Decision(
        allowed=True,
        headers=_headers(value, "headers", pseudo=True),
        response_headers_to_add=_headers(value, "response_headers_to_add"),
        request_headers_to_remove=_header_names(value, "request_headers_to_remove"),
        query_parameters_to_set=_parameters(value, "query_parameters_to_set"),
        query_parameters_to_remove=_strings(value, "query_parameters_to_remove"),
        dynamic_metadata=metadata,
        reasons=reasons,
        rule=rule,
        cache_ttl=cache_ttl,
        quotas=_quotas(value["quotas"]) if "quotas" in value else (),
    )


def _headers(result: Mapping[str, object], field: str, *, pseudo: bool = False) -> Pairs:
    if field not in result:
        return ()
    value = result[field]
    pairs: list[tuple[str, str]] = []
    for group in value if isinstance(value, list) else (value,):
        if not isinstance(group, dict):
            raise _wrong(field, "an object of strings or lists of strings, or an array of such objects", group)
        for name, content in group.items():
            fault = name_fault(name, pseudo=pseudo)
            if fault:
                raise ResultError(f"result.{field}: {name!r} {fault}")
            for item in content if isinstance(content, list) else (content,):
                if not isinstance(item, str):
                    raise _wrong(f"{field}[{name!r}]", "a string or a list of strings", item)
                fault = value_fault(item)
                if fault:
                    raise ResultError(f"result.{field}: {name!r} {fault}")
                pairs.append((name, item))
    return tuple(pairs)


def _strings(result: Mapping[str, object], field: str) -> tuple[str, ...]:
    if field not in result:
        return ()
    value = result[field]
    if not isinstance(value, list):
        raise _wrong(field, "a list of strings", value)
    for item in value:
        if not isinstance(item, str):
            raise _wrong(f"{field}[]", "a string", item)
    return tuple(value)


def _header_names(result: Mapping[str, object], field: str) -> tuple[str, ...]:
    names = _strings(result, field)
    for name in names:
        fault = name_fault(name)
        if fault:
            raise ResultError(f"result.{field}: {name!r} {fault}")
    return names


def _parameters(result: Mapping[str, object], field: str) -> Pairs:
    if field not in result:
        return ()
    value = result[field]
    if not isinstance(value, dict):
        raise _wrong(field, "an object of strings or lists of strings", value)
    pairs: list[tuple[str, str]] = []
    for name, content in value.items():
        for item in content if isinstance(content, list) else (content,):
            if not isinstance(item, str):
                raise _wrong(f"{field}[{name!r}]", "a string or a list of strings", item)
            pairs.append((name, item))
    return tuple(pairs)


def _status(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong("http_status", "an integer", value)
    if value not in STATUSES:
        raise ResultError(f"result.http_status: {value} is no HTTP status that Envoy knows")
    return value


def _body(value: object) -> str:
    if not isinstance(value, str):
        raise _wrong("body", "a string", value)
    return value


def _metadata(value: object) -> Mapping[str, object]:
    """The policy's metadata without the keys that are mixer's own."""
    if not isinstance(value, dict):
        raise _wrong("dynamic_metadata", "an object", value)
    own = {
        name: content
        for name, content in value.items()
        if name != OWN_METADATA and not name.startswith(OWN_METADATA_PREFIX)
    }
    return own or NO_METADATA


def _reasons(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise _wrong("reasons", "a string or a list of strings", value)
    for item in value:
        if not isinstance(item, str):
            raise _wrong("reasons[]", "a string", item)
    return tuple(value)


def _cache_ttl(value: object) -> float:
    """Seconds from a number of seconds or text such as `1m30s`."""
    wanted = "a number of seconds from 0 or a duration such as 30s"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _wrong("cache_ttl", wanted, value)
    try:
        seconds = parse_duration(value) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        raise ResultError(f"result.cache_ttl: must be {wanted}, but is {str(value)[:40]!r}") from None
    if not seconds >= 0:
        raise ResultError(f"result.cache_ttl: must be {wanted}, but is {value!r}")
    return seconds


def _quotas(value: object) -> tuple[QuotaAsked, ...]:
    """What is to be charged; whether there are such quotas is not known here."""
    if not isinstance(value, list):
        raise _wrong("quotas", "a list of objects {name, key, hits}", value)
    if len(value) > MOST_QUOTAS:
        raise ResultError(f"result.quotas: {len(value)} are more than {MOST_QUOTAS}")
    return tuple(_quota(item, f"quotas[{index}]") for index, item in enumerate(value))


def _quota(value: object, field: str) -> QuotaAsked:
    if not isinstance(value, dict):
        raise _wrong(field, "an object {name, key, hits}", value)
    unknown = value.keys() - {"name", "key", "hits"}
    if unknown:
        raise ResultError(f"result.{field}: {min(map(str, unknown))!r} is none of name, key and hits")
    name = value.get("name")
    if not isinstance(name, str):
        raise _wrong(f"{field}.name", "a string", name)
    return QuotaAsked(
        name,
        _key(value["key"], f"{field}.key") if "key" in value else None,
        _hits(value["hits"], f"{field}.hits") if "hits" in value else None,
    )


def _key(value: object, field: str) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else [value]
    for part in parts:
        if not isinstance(part, str):
            raise _wrong(field, "a string or a list of strings", part)
    return tuple(parts)


def _hits(value: object, field: str) -> int:
    """Whole hits from 0: negative ones would refill a quota by what a client sends."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(field, "an integer", value)
    if not 0 <= value <= MOST_HITS:
        raise ResultError(f"result.{field}: {value} is not between 0 and {MOST_HITS}")
    return value
