"""What the entries of requests and of connections have alike, computed over a whole slice of them.

The rules are DESIGN 3.5's and reference/mixer.md 2.1's. Work on single values is done once for each distinct value.
Not for: columns of one table alone (`requests.py`, `connections.py`), or copied from one place (`decoding.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from envoy.data.accesslog.v3 import accesslog_pb2

from mixer_py.telemetry.access_log.entries import (
    CLUSTER_TAG,
    DOWNSTREAM_PEER,
    PRINCIPAL_TAG,
    UPSTREAM_PEER,
    Entries,
    Indices,
)
from mixer_py.telemetry.access_log.known_parties import Facts, KnownParties, Said, SaidNames
from mixer_py.telemetry.access_log.maps import maps_of
from mixer_py.telemetry.access_log.parties import OF_INSTANCES, SERVICE_NAMES
from mixer_py.telemetry.access_log.projection import FLAGS
from mixer_py.telemetry.access_log.streams import SOURCE
from mixer_py.telemetry.column import Metadata
from mixer_py.telemetry.columns import SHADOW_KEYS, SHADOW_PREFIXES
from mixer_py.telemetry.grouping import Alike
from mixer_py.telemetry.texts import blank, is_blank

COMMON: Final = "common_properties."
_TLS: Final = COMMON + "tls_properties."
_LAST_SECOND: Final = 9_223_372_035
"""The last whole second that fits into nanoseconds of 64 bits: 2262-04-11."""
_LAST_INSTANT: Final = 2**63 - 1
_LONGEST: Final = 10**12
"""Seconds; no request takes longer, and its microseconds fit into 64 bits."""
RESPONSE_FLAGS: Final[Mapping[str, str]] = {
    "failed_local_healthcheck": "LH", "no_healthy_upstream": "UH", "upstream_request_timeout": "UT",
    "local_reset": "LR", "upstream_remote_reset": "UR", "upstream_connection_failure": "UF",
    "upstream_connection_termination": "UC", "upstream_overflow": "UO", "no_route_found": "NR",
    "delay_injected": "DI", "fault_injected": "FI", "rate_limited": "RL", "unauthorized_details": "UAEX",
    "rate_limit_service_error": "RLSE", "downstream_connection_termination": "DC",
    "upstream_retry_limit_exceeded": "URX", "stream_idle_timeout": "SI", "invalid_envoy_request_headers": "IH",
    "downstream_protocol_error": "DPE", "upstream_max_stream_duration_reached": "UMSDR",
    "response_from_cache_filter": "RFCF", "no_filter_config_found": "NFCF", "duration_timeout": "DT",
    "upstream_protocol_error": "UPE", "no_cluster_found": "NC", "overload_manager": "OM",
    "dns_resolution_failure": "DF", "downstream_remote_reset": "DR",
}  # fmt: skip
"""Envoy's short codes of `%RESPONSE_FLAGS%`, by field of ResponseFlags and in its order."""

_NO_FLAGS: Final = "-"
_FLAGS_KEPT: Final = 256
_LONGEST_FLAGS: Final = 128
"""Bytes of flags that are remembered; all fields that there are take less, what we do not know may take a megabyte."""
_EMPTY: Final = pa.scalar("")
_INSTANT: Final = pa.timestamp("ns", tz="UTC")
_TLS_VERSIONS: Final = pa.array(["", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"])


def text_or(first: pa.Array, second: pa.Array) -> pa.Array:
    """`first` where it is not empty, else `second`."""
    if is_blank(first):
        return second
    if is_blank(second):
        return first
    return pc.if_else(is_empty(first), second, first)


def is_empty(texts: pa.Array) -> pa.Array:
    """Which texts are empty."""
    return pc.equal(texts, _EMPTY)


def instants(nanoseconds: Indices) -> pa.Array:
    """Nanoseconds since the epoch as timestamps."""
    return pa.array(nanoseconds).view(_INSTANT)


def named(values: npt.NDArray[np.int64], names: pa.Array) -> pa.Array:
    """The names of an enum's values; empty for one that we do not know."""
    values = np.where((values >= 0) & (values < len(names)), values, 0)
    first = int(values[0]) if len(values) else 0
    if (values == first).all():
        return pa.repeat(names[first], len(values))
    return names.take(pa.array(values))


class Slice:
    """One slice of entries, and what several columns of it share."""

    RBAC: ClassVar[str]
    """The namespace of dynamic metadata in which RBAC filters leave what they found."""

    def __init__(self, entries: Entries, known: KnownParties) -> None:
        self.entries = entries
        self._known = known

    @cached_property
    def peer_san(self) -> pa.Array:
        """Alternative name of the peer's certificate; empty when it has none."""
        return self._alternative_name("peer")

    @cached_property
    def own_san(self) -> pa.Array:
        """Alternative name of the proxy's certificate; empty when it has none."""
        return self._alternative_name("local")

    def _alternative_name(self, whose: str) -> pa.Array:
        path = f"{_TLS}{whose}_certificate_properties.subject_alt_name"
        names = self.entries.first_of_list(path, "uri")
        if not names.null_count:
            return names
        others = self.entries.first_of_list(path, "dns")
        if others.null_count < len(others):
            names = pc.coalesce(names, others)
        return blank(len(names)) if is_blank(names) else pc.fill_null(names, "")

    @cached_property
    def peer(self) -> pa.Array:
        """Name of the caller's certificate."""
        return text_or(self.peer_san, self.entries.at(_TLS + "peer_certificate_properties.subject"))

    @cached_property
    def own(self) -> pa.Array:
        """Name of the proxy's own certificate."""
        return text_or(self.own_san, self.entries.at(_TLS + "local_certificate_properties.subject"))

    @cached_property
    def cluster(self) -> pa.Array:
        """The cluster that was asked, else that of the route, as Istio's metrics have it for denied requests too."""
        asked = self.entries.at(COMMON + "upstream_cluster")
        if not pc.any(is_empty(asked)).as_py():
            return asked
        routed = self.entries.custom_tags.find(CLUSTER_TAG)
        return asked if routed is None else text_or(asked, routed)

    @cached_property
    def _facts(self) -> Facts:
        """What is known of both sides; one look-up for each distinct fact."""
        entries, length = self.entries, len(self.entries)
        filter_state = entries.filter_state
        upstream = entries.custom_tags.find(PRINCIPAL_TAG)
        texts = (Said(one, length) for one in (self.cluster, self.peer, self.own, upstream))
        peers = (Said(filter_state.peer(names), length, b"") for names in (DOWNSTREAM_PEER, UPSTREAM_PEER))
        said = SaidNames(*texts, *peers)
        return self._known.facts(entries.identities, entries.streams, said)

    @property
    def parties(self) -> dict[str, pa.Array]:
        """The columns of `parties.NAMES`."""
        return self._facts.columns

    @property
    def alike(self) -> Alike:
        """Entries of one group are alike in the columns that it names."""
        parties, facts = self.parties, self._facts
        completed = [name for name in SERVICE_NAMES if pc.any(is_empty(parties[name])).as_py()]
        told = frozenset(parties.keys() - completed - OF_INSTANCES)
        return Alike(told, facts.groups, facts.count, facts.keys, facts.era)

    @cached_property
    def _from_source(self) -> pa.Array:
        return pc.equal(self.parties["reporter"], SOURCE)

    @cached_property
    def _direct(self) -> pa.Array:
        return pa.array(self.entries.present(COMMON + "downstream_direct_remote_address.socket_address"))

    @cached_property
    def _shadowed(self) -> tuple[pa.Array, pa.Array]:
        """What RBAC rules say that are not enforced, and by which policy; who denies, or names one, counts more."""
        metadata = self.entries.metadata
        result = policy = blank(len(self.entries))
        for prefix in SHADOW_PREFIXES:
            told, by = (metadata.find(Metadata(self.RBAC, prefix + key)) for key in SHADOW_KEYS)
            if told is None or by is None:  # no entry has anything of such a filter
                break
            unnamed = pc.and_(pc.equal(told, result), is_empty(policy))
            denies = pc.and_(pc.equal(told, "denied"), pc.not_equal(result, "denied"))
            counts = pc.and_(pc.invert(is_empty(told)), pc.or_(is_empty(result), pc.or_(denies, unnamed)))
            result, policy = pc.if_else(counts, told, result), pc.if_else(counts, by, policy)
        return result, policy

    @cached_property
    def starts(self) -> Indices:
        """Nanoseconds since the epoch at which each began, within what 64 bits can say; now where that is absent."""
        path = COMMON + "start_time"
        seconds = _within(self.entries.numbers(path + ".seconds"), 0, _LAST_SECOND)
        nanos = _within(self.entries.numbers(path + ".nanos"), 0, 999_999_999)
        starts: Indices = np.where(self.entries.present(path), seconds * 1_000_000_000 + nanos, self.entries.now)
        return starts

    # --- one method a column; its name is the column's ---

    def source_ip(self) -> pa.Array:
        """Address of the connection, not of x-forwarded-for."""
        return self._choose(self._direct, "downstream_direct_remote_address", "downstream_remote_address", "address")

    def source_port(self) -> pa.Array:
        """Of the same address."""
        return self._choose(self._direct, "downstream_direct_remote_address", "downstream_remote_address", "port_value")

    def destination_ip(self) -> pa.Array:
        """Upstream for reporter `source`, else where the connection came in."""
        return self._choose(self._from_source, "upstream_remote_address", "downstream_local_address", "address")

    def destination_port(self) -> pa.Array:
        """Of the same address."""
        return self._choose(self._from_source, "upstream_remote_address", "downstream_local_address", "port_value")

    def _choose(self, which: pa.Array, one: str, other: str, name: str) -> pa.Array:
        below = f".socket_address.{name}"
        return pc.if_else(which, self.entries.at(COMMON + one + below), self.entries.at(COMMON + other + below))

    def source_principal(self) -> pa.Array:
        """Name of the caller's certificate, else what metadata say."""
        return self.parties["source_principal"]

    def custom_tags(self) -> pa.Array:
        """All of them."""
        return maps_of(self.entries.at(COMMON + "custom_tags"))

    def tls_version(self) -> pa.Array:
        """As OpenSSL writes it."""
        return named(self.entries.numbers(_TLS + "tls_version"), _TLS_VERSIONS)

    def connection_mtls(self) -> pa.Array:
        """Both certificates carry an alternative name."""
        return pc.invert(pc.or_(is_empty(self.peer_san), is_empty(self.own_san)))

    def response_flags(self) -> pa.Array:
        """Short codes in the order of ResponseFlags; each distinct combination is read once."""
        encoded = self.entries.at(FLAGS).dictionary_encode()
        if not any(encoded.dictionary.to_pylist()):  # each is absent, or has nothing set
            return pa.repeat(_NO_FLAGS, len(self.entries))
        codes = pa.array([_flag_codes(value) for value in encoded.dictionary.to_pylist()], pa.string())
        return codes.take(encoded.indices).fill_null(_NO_FLAGS)

    def rbac_permissive_response_code(self) -> pa.Array:
        """By Envoy's words."""
        return self._shadowed[0]

    def rbac_permissive_effective_policy_id(self) -> pa.Array:
        """Of the same rules."""
        return self._shadowed[1]

    def span(self, path: str) -> pa.Array:
        """Microseconds of the Duration at a path; null where it is absent."""
        absent = ~self.entries.present(path)
        if absent.all():
            return pa.nulls(len(absent), pa.uint64())
        return pa.array(self.micros(path).astype(np.uint64), mask=absent)

    def moments(self, micros: Indices) -> Indices:
        """Nanoseconds since the epoch so many microseconds after the start, within what 64 bits can say."""
        passed: Indices = np.minimum(micros, (_LAST_INSTANT - self.starts) // 1000)
        return self.starts + passed * 1000

    def micros(self, path: str) -> Indices:
        """Microseconds of the Duration at a path; 0 where it is absent or negative."""
        seconds = _within(self.entries.numbers(path + ".seconds"), -_LONGEST, _LONGEST)
        micros: Indices = np.maximum(seconds * 1_000_000 + self.entries.numbers(path + ".nanos") // 1000, 0)
        return micros


def _within(values: Indices, least: int, most: int) -> Indices:
    """The values, none below or above; `np.clip` takes longer, it asks what the type can hold."""
    return np.minimum(np.maximum(values, least), most)


def _flag_codes(value: bytes) -> str:
    """The short codes of a serialized ResponseFlags, read once: they have 28 fields, and few values come at all."""
    return _known_codes(value) if len(value) <= _LONGEST_FLAGS else _codes_of(value)


def _codes_of(value: bytes) -> str:
    flags = accesslog_pb2.ResponseFlags.FromString(value)
    return ",".join(code for field, code in RESPONSE_FLAGS.items() if _is_set(flags, field)) or _NO_FLAGS


_known_codes = lru_cache(_FLAGS_KEPT)(_codes_of)


def _is_set(flags: accesslog_pb2.ResponseFlags, field: str) -> bool:
    return flags.HasField(field) if field == "unauthorized_details" else bool(getattr(flags, field))
