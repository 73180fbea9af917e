"""Columns that are computed: one function a column, each over a whole slice of entries.

The rules are DESIGN 3.5's and reference/mixer.md 2.1's. Work on single values is done once for each distinct value.
Not for: columns that are copied from one place (`decoding.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from envoy.config.core.v3 import base_pb2

from mixer_py.telemetry.access_log.entries import Entries, Indices, numbers
from mixer_py.telemetry.access_log.parties import NAMES, parties_of
from mixer_py.telemetry.access_log.streams import SOURCE, StreamIdentity
from mixer_py.telemetry.columns import VERDICT

_C: Final = "common_properties."
_TLS: Final = _C + "tls_properties."
_LAST_SECOND: Final = 9_223_372_035
"""The last whole second that fits into nanoseconds of 64 bits: 2262-04-11."""
_LONGEST: Final = 10**12
"""Seconds; no request takes longer, and its microseconds fit into 64 bits."""
_MOST_PARTIES: Final = 10_000
"""Combinations remembered between slices."""

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

_EMPTY: Final = pa.scalar("")
_METHODS: Final = pa.array(
    [("" if value.number == 0 else value.name) for value in base_pb2.RequestMethod.DESCRIPTOR.values]
)
_VERSIONS: Final = pa.array(["", "HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"])  # as Envoy writes %PROTOCOL%
_HOST_NAME: Final = r"^(\[[^\]]*\]|\d+\.\d+\.\d+\.\d+|[^.:]*)(?s:.*)$"
_PORT: Final = r":\d*$"
_NOT_IN_SVC: Final = r"^[^.]+\.([^.]+)\.svc(?:\.(?s:.*))?$"


def text_or(first: pa.Array, second: pa.Array) -> pa.Array:
    """`first` where it is not empty, else `second`."""
    return pc.if_else(is_empty(first), second, first)


def is_empty(texts: pa.Array) -> pa.Array:
    """Which texts are empty."""
    return pc.equal(texts, _EMPTY)


def named(values: npt.NDArray[np.int64], names: pa.Array) -> pa.Array:
    """The names of an enum's values; empty for one that we do not know."""
    values = np.where((values >= 0) & (values < len(names)), values, 0)
    first = int(values[0]) if len(values) else 0
    if (values == first).all():
        return pa.repeat(names[first], len(values))
    return names.take(pa.array(values))


class Deriver:
    """Computes columns for one slice after another, and remembers combinations of parties."""

    def __init__(self) -> None:
        self._parties: dict[tuple[StreamIdentity, str, str, str], tuple[str, ...]] = {}

    def slice(self, entries: Entries) -> Slice:
        """One slice."""
        if len(self._parties) > _MOST_PARTIES:
            self._parties.clear()
        return Slice(entries, self._parties)


class Slice:
    """One slice of entries, and what several columns of it share."""

    def __init__(self, entries: Entries, known: dict[tuple[StreamIdentity, str, str, str], tuple[str, ...]]) -> None:
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
        if names.null_count:
            names = pc.coalesce(names, self.entries.first_of_list(path, "dns"))
        return pc.fill_null(names, "")

    @cached_property
    def peer(self) -> pa.Array:
        """Name of the caller's certificate."""
        return text_or(self.peer_san, self.entries.at(_TLS + "peer_certificate_properties.subject"))

    @cached_property
    def own(self) -> pa.Array:
        """Name of the proxy's own certificate."""
        return text_or(self.own_san, self.entries.at(_TLS + "local_certificate_properties.subject"))

    @cached_property
    def parties(self) -> dict[str, pa.Array]:
        """The columns of `parties.NAMES`; one lookup for each distinct combination."""
        entries = self.entries
        encoded = [array.dictionary_encode() for array in (entries.at(_C + "upstream_cluster"), self.peer, self.own)]
        code = entries.streams
        for array in encoded:
            code = code * max(len(array.dictionary), 1) + numbers(array.indices)
        _, first, group = np.unique(code, return_index=True, return_inverse=True)
        rows = []
        clusters, peers, owns = (
            [array.dictionary[i].as_py() for i in numbers(array.indices)[first]] for array in encoded
        )
        for stream, *names in zip(entries.streams[first], clusters, peers, owns, strict=True):
            key = (entries.identities[stream], *names)
            row = self._known.get(key)
            if row is None:
                row = self._known[key] = parties_of(*key).row()
            rows.append(row)
        # One array of all columns' values, taken from once: a call of Arrow's costs more than the few values.
        values = pa.array([value for column in zip(*rows, strict=True) for value in column], pa.string())
        places = np.arange(len(NAMES))[:, np.newaxis] * len(rows) + group
        taken = values.take(pa.array(places.ravel()))
        length = len(entries)
        return {name: taken.slice(place * length, length) for place, name in enumerate(NAMES)}

    @cached_property
    def _from_source(self) -> pa.Array:
        return pc.equal(self.parties["reporter"], SOURCE)

    @cached_property
    def _direct(self) -> pa.Array:
        return pa.array(self.entries.present(_C + "downstream_direct_remote_address.socket_address"))

    @cached_property
    def authority_host(self) -> pa.DictionaryArray:
        """The authority without its port."""
        encoded = self.entries.at("request.authority").dictionary_encode()
        hosts = pc.replace_substring_regex(encoded.dictionary, _PORT, "")
        return pa.DictionaryArray.from_arrays(encoded.indices, hosts)

    # --- one method a column; its name is the column's ---

    def timestamp(self) -> pa.Array:
        """The start, within what nanoseconds of 64 bits can say."""
        path = _C + "start_time"
        seconds = np.clip(self.entries.numbers(path + ".seconds"), 0, _LAST_SECOND)
        nanos = np.clip(self.entries.numbers(path + ".nanos"), 0, 999_999_999)
        instants = np.where(self.entries.present(path), seconds * 1_000_000_000 + nanos, self.entries.now)
        return pa.array(instants).cast(pa.timestamp("ns", tz="UTC"))

    def verdict(self) -> pa.Array:
        """What mixer said, else what Envoy's details and headers let one conclude (DESIGN 3.5)."""
        told = self.entries.metadata.text(VERDICT)
        silent = is_empty(told)
        if not pc.any(silent).as_py():
            return told
        failed = pc.match_substring(self.entries.at("response.response_code_details"), "ext_authz_error")
        allowed = self.entries.request_headers.get("x-envoy-auth-failure-mode-allowed")
        otherwise = pc.if_else(failed, "error", pc.if_else(pc.equal(allowed, "true"), "bypassed", "none"))
        return pc.if_else(silent, otherwise, told)

    def context_protocol(self) -> pa.Array:
        """What is spoken: grpc or http."""
        content_type = self.entries.request_headers.get("content-type")
        is_grpc = pc.or_(pc.starts_with(content_type, "application/grpc"), pc.invert(is_empty(self._grpc_status)))
        return pc.if_else(is_grpc, "grpc", "http")

    def protocol_version(self) -> pa.Array:
        """As Envoy writes it."""
        return named(self.entries.numbers("protocol_version"), _VERSIONS)

    def request_method(self) -> pa.Array:
        """Empty for a method that Envoy has no value for."""
        return named(self.entries.numbers("request.request_method"), _METHODS)

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
        return pc.if_else(which, self.entries.at(_C + one + below), self.entries.at(_C + other + below))

    def source_principal(self) -> pa.Array:
        """Name of the caller's certificate."""
        return self.peer

    def connection_mtls(self) -> pa.Array:
        """Both certificates carry an alternative name."""
        return pc.invert(pc.or_(is_empty(self.peer_san), is_empty(self.own_san)))

    def destination_service_host(self) -> pa.Array:
        """The cluster's, else the authority's."""
        known = self.parties["destination_service_host"]
        missing = is_empty(known)
        if not pc.any(missing).as_py():
            return known
        return pc.if_else(missing, self.authority_host.dictionary_decode(), known)

    def destination_service_name(self) -> pa.Array:
        """The cluster's, else the first label of the authority; an IP address is kept whole."""
        known = self.parties["destination_service_name"]
        missing = is_empty(known)
        if not pc.any(missing).as_py():
            return known
        hosts = self.authority_host
        names = pc.replace_substring_regex(hosts.dictionary, _HOST_NAME, r"\1")
        return pc.if_else(missing, names.take(hosts.indices), known)

    def destination_service_namespace(self) -> pa.Array:
        """The host's, else the server's."""
        known = self.parties["destination_service_namespace"]
        if not pc.any(is_empty(known)).as_py():
            return known
        hosts = self.authority_host
        in_svc = pc.match_substring_regex(hosts.dictionary, _NOT_IN_SVC)
        names = pc.if_else(in_svc, pc.replace_substring_regex(hosts.dictionary, _NOT_IN_SVC, r"\1"), "")
        unnamed = is_empty(self.parties["destination_service_host"])
        told = pc.if_else(unnamed, names.take(hosts.indices), "")
        return text_or(known, text_or(told, self.parties["destination_namespace"]))

    def request_url_path(self) -> pa.Array:
        """As the client sent it, without query and fragment."""
        path = text_or(self.entries.at("request.original_path"), self.entries.at("request.path"))
        if not pc.any(pc.match_substring_regex(path, "[?#]")).as_py():
            return path
        return pc.replace_substring_regex(path, r"(?s)[?#].*$", "")

    def response_flags(self) -> pa.Array:
        """Short codes in the order of ResponseFlags."""
        bits: Indices = np.zeros(len(self.entries), dtype=np.int64)
        flags = self.entries.at(_C + "response_flags")
        for bit, name in enumerate(RESPONSE_FLAGS):
            flag = flags.field(bit)  # the projection has every field, in this order
            if name == "unauthorized_details":
                flag = flag.is_valid()
            if flag.true_count:
                bits |= numbers(flag).astype(np.int64) << bit
        if not bits.any():
            return pa.repeat("-", len(self.entries))
        distinct, group = np.unique(bits, return_inverse=True)
        codes = list(RESPONSE_FLAGS.values())
        texts = [
            ",".join(code for bit, code in enumerate(codes) if value >> bit & 1) or "-" for value in distinct.tolist()
        ]
        return pa.array(texts).take(pa.array(group))

    def response_grpc_status(self) -> pa.Array:
        """From trailers, else from headers (a trailers-only response)."""
        return self._grpc_status

    @cached_property
    def _grpc_status(self) -> pa.Array:
        return self._trailer("grpc-status")

    def response_grpc_message(self) -> pa.Array:
        """From trailers, else from headers."""
        return self._trailer("grpc-message")

    def _trailer(self, name: str) -> pa.Array:
        return text_or(self.entries.response_trailers.get(name), self.entries.response_headers.get(name))

    def response_duration(self) -> pa.Array:
        """Microseconds."""
        total, last = _C + "duration", _C + "time_to_last_downstream_tx_byte"
        micros = np.where(self.entries.present(total), self._micros(total), self._micros(last))
        return pa.array(micros.astype(np.uint64))

    def _micros(self, path: str) -> Indices:
        seconds = np.clip(self.entries.numbers(path + ".seconds"), -_LONGEST, _LONGEST)
        micros: Indices = np.maximum(seconds * 1_000_000 + self.entries.numbers(path + ".nanos") // 1000, 0)
        return micros
