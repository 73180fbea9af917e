"""Which column holds which attribute of the vocabulary, and why some have none.

Most columns have their attribute's name; this says the rest, so that every attribute is accounted for: a test holds
the two together, and docs/columns.md lists them. Not for: the columns themselves (`columns.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

SAME: Final[Mapping[str, str]] = MappingProxyType({
    "context.proxy_error_code": "response_flags",
    "request.time": "timestamp",
    "check.error_message": "reasons",
    "source.user": "source_principal",
    "origin.user": "request_auth_principal",
})  # fmt: skip
"""Attributes that a column of `requests` holds under another name; expressions know both."""

ELSEWHERE: Final[Mapping[str, str]] = MappingProxyType({
    "request.path": "told by request_url_path, and by request_query_params as far as `telemetry.query` names them",
    "request.reason": "a member of request_headers, where x-goog-request-reason is logged and named",
    "request.api_key": "a member of request_headers, where its header is logged and named; masked unless that is off",
    "request.auth.raw_claims": "told by request_auth_claims; the whole text would show claims that nobody named",
    "context.time": "timestamp and response_duration of requests; timestamp of connections",
    "context.timestamp": "a former name of context.time",
    "context.reporter.kind": "told by reporter: destination is inbound, source is outbound",
    "context.reporter.local": "told by reporter",
    "check.error_code": "Envoy logs no status of the check; told by verdict and response_code_details",
    "check.cache_hit": "Envoy is not told; column cache of decisions, by decision_id",
    "quota.cache_hit": "Envoy is not told; there is no cache of quotas",
    "destination.container.image": "neither the node's metadata nor the peer's tell it",
    "source.services": "nothing ever filled it",
    "source.metadata": "nothing ever filled it",
    "destination.metadata": "nothing ever filled it",
    "origin.uid": "nothing ever filled it; the original client is known by origin_ip",
})  # fmt: skip
"""Attributes that no column holds as they are, and why."""
