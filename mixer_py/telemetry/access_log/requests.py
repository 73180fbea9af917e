"""Columns of `requests` that are computed: one method a column, each over a whole slice of entries.

The rules are DESIGN 3.5's and reference/mixer.md 2.1's. Work on single values is done once for each distinct value.
Not for: columns that connections have as well (`derivation.py`), or that are copied from one place (`decoding.py`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.grpc_stats.v3.config_pb2 import FilterObject
from google.protobuf.message import DecodeError

from mixer_py.telemetry.access_log.derivation import COMMON, Slice, instants, is_empty, named, text_or
from mixer_py.telemetry.access_log.entries import GRPC_STATS
from mixer_py.telemetry.column import Metadata
from mixer_py.telemetry.columns import EXT_AUTHZ, RBAC
from mixer_py.telemetry.texts import has_any, is_blank

_VERDICT: Final = Metadata(EXT_AUTHZ, "mixer_verdict")
_METHODS: Final = pa.array(
    [("" if value.number == 0 else value.name) for value in base_pb2.RequestMethod.DESCRIPTOR.values]
)
_VERSIONS: Final = pa.array(["", "HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"])  # as Envoy writes %PROTOCOL%
_HOST_NAME: Final = r"^(\[[^\]]*\]|\d+\.\d+\.\d+\.\d+|[^.:]*)(?s:.*)$"
_PORT: Final = r":\d*$"
_NOT_IN_SVC: Final = r"^[^.]+\.([^.]+)\.svc(?:\.(?s:.*))?$"


class RequestSlice(Slice):
    """One slice of HTTPAccessLogEntry."""

    RBAC = RBAC

    @cached_property
    def authority_host(self) -> pa.DictionaryArray:
        """The authority without its port."""
        encoded = self.entries.at("request.authority").dictionary_encode()
        hosts = pc.replace_substring_regex(encoded.dictionary, _PORT, "")
        return pa.DictionaryArray.from_arrays(encoded.indices, hosts)

    # --- one method a column; its name is the column's ---

    def timestamp(self) -> pa.Array:
        """The start."""
        return instants(self.starts)

    def verdict(self) -> pa.Array:
        """What mixer said, else what Envoy's details and headers let one conclude (DESIGN 3.5)."""
        told = self.entries.metadata.text(_VERDICT)
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
        if is_blank(content_type) and is_blank(self._grpc_status):
            return pa.repeat("http", len(self.entries))
        is_grpc = pc.or_(pc.starts_with(content_type, "application/grpc"), pc.invert(is_empty(self._grpc_status)))
        return pc.if_else(is_grpc, "grpc", "http")

    def protocol_version(self) -> pa.Array:
        """As Envoy writes it."""
        return named(self.entries.numbers("protocol_version"), _VERSIONS)

    def request_method(self) -> pa.Array:
        """Empty for a method that Envoy has no value for."""
        return named(self.entries.numbers("request.request_method"), _METHODS)

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
        for mark in "?#":  # by splitting: a regular expression takes five times as long
            if has_any(path, mark):
                path = pc.list_element(pc.split_pattern(path, mark, max_splits=1), 0)
        return path

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
        total, last = COMMON + "duration", COMMON + "time_to_last_downstream_tx_byte"
        micros = np.where(self.entries.present(total), self.micros(total), self.micros(last))
        return pa.array(micros.astype(np.uint64))

    def response_time(self) -> pa.Array:
        """When the first byte came from upstream, else was sent; the epoch where neither was."""
        upstream, sent = (COMMON + f"time_to_first_{which}_byte" for which in ("upstream_rx", "downstream_tx"))
        answered = self.entries.present(upstream)
        micros = np.where(answered, self.micros(upstream), self.micros(sent))
        return instants(np.where(answered | self.entries.present(sent), self.moments(micros), 0))

    def request_messages(self) -> pa.Array:
        """Of gRPC, by the client."""
        return self._grpc_messages[0]

    def response_messages(self) -> pa.Array:
        """Of gRPC, by the server."""
        return self._grpc_messages[1]

    @cached_property
    def _grpc_messages(self) -> tuple[pa.Array, pa.Array]:
        """Counts of messages both ways; each distinct object is read once."""
        values = self.entries.filter_state.value(GRPC_STATS)
        if values is None:
            nothing = pa.array(np.zeros(len(self.entries), np.uint64))
            return nothing, nothing
        encoded = values.dictionary_encode()
        counts = [_message_counts(value) for value in encoded.dictionary.to_pylist()]
        columns = (pa.array(column, pa.uint64()) for column in zip(*counts, strict=True))
        requests, responses = columns if counts else (pa.array([], pa.uint64()),) * 2
        indices = encoded.indices
        return requests.take(indices).fill_null(0), responses.take(indices).fill_null(0)


def _message_counts(value: bytes) -> tuple[int, int]:
    """What an object of Envoy's grpc_stats filter says; nothing where it is none."""
    try:
        stats = FilterObject.FromString(value)
    except DecodeError:
        return 0, 0
    return stats.request_message_count, stats.response_message_count
