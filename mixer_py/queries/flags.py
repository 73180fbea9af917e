"""What Envoy's response flags mean, for people (Envoy's documentation of `%RESPONSE_FLAGS%`, in our words)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

MEANINGS: Final[Mapping[str, str]] = MappingProxyType({
    "LH": "the local service failed its health check",
    "UH": "no healthy upstream host",
    "UT": "the upstream took longer than the route allows",
    "LR": "Envoy reset the connection",
    "UR": "the upstream reset the connection",
    "UF": "no connection to the upstream",
    "UC": "the upstream ended the connection",
    "UO": "the circuit breaker of the upstream was open",
    "NR": "no route for the request",
    "DI": "delayed by fault injection",
    "FI": "aborted by fault injection",
    "RL": "over a rate limit",
    "UAEX": "denied by the external authorization service",
    "RLSE": "the rate limit service failed",
    "DC": "the client ended the connection",
    "URX": "all retries were used, or the connection was tried often enough",
    "SI": "the stream was idle for too long",
    "IH": "a header of Envoy's own was invalid",
    "DPE": "the client broke the HTTP protocol",
    "UMSDR": "the upstream stream lasted longer than allowed",
    "RFCF": "answered from Envoy's cache",
    "NFCF": "the configuration of a filter had not come in time",
    "DT": "the request or the connection lasted longer than allowed",
    "UPE": "the upstream broke the HTTP protocol",
    "NC": "the route's cluster does not exist",
    "OM": "refused by Envoy's overload manager",
    "DF": "the name of the upstream could not be resolved",
    "DR": "the client reset the stream",
})  # fmt: skip
"""By Envoy's short code."""


def meanings(flags: str) -> dict[str, str]:
    """What each flag of a row means, in the row's order; one that is not known means nothing.

    Args:
        flags: as `response_flags` has them: short codes joined by commas, or `-`.
    """
    return {flag: MEANINGS.get(flag, "") for flag in flags.split(",") if flag not in {"", "-"}}
