"""Columns of `connections` that are computed: one method a column, each over a whole slice of entries.

Not for: columns that requests have as well (`derivation.py`), or what a report adds (`tracking.py`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from envoy.data.accesslog.v3 import accesslog_pb2

from mixer_py.telemetry.access_log.derivation import COMMON, Slice, instants, is_empty, named, text_or
from mixer_py.telemetry.access_log.entries import Entries, numbers
from mixer_py.telemetry.access_log.known_parties import KnownParties
from mixer_py.telemetry.access_log.tracking import ConnectionTracker, Event, Report, Steps
from mixer_py.telemetry.column import Metadata
from mixer_py.telemetry.columns import NETWORK_EXT_AUTHZ, NETWORK_RBAC

_VERDICT: Final = Metadata(NETWORK_EXT_AUTHZ, "mixer_verdict")
_TCP_CONNECTION_START: Final = 14
"""AccessLogType.TcpConnectionStart of Envoy 1.39, which our copy of its messages does not know yet."""
_OPENS: Final = (
    _TCP_CONNECTION_START, accesslog_pb2.TcpUpstreamConnected, accesslog_pb2.DownstreamStart,
    accesslog_pb2.UpstreamPoolReady, accesslog_pb2.DownstreamTunnelSuccessfullyEstablished,
    accesslog_pb2.UdpTunnelUpstreamConnected,
)  # fmt: skip
_CLOSES: Final = (
    accesslog_pb2.NotSet, accesslog_pb2.TcpConnectionEnd, accesslog_pb2.DownstreamEnd, accesslog_pb2.UpstreamEnd,
    accesslog_pb2.UdpSessionEnd,
)  # fmt: skip
"""Unset is what an Envoy before 1.27 sends. A kind that we do not know neither opens nor closes anything."""
_EVENTS: Final = pa.array([event.name.lower() for event in Event])
_UNSET: Final = accesslog_pb2.NotSet


class ConnectionSlice(Slice):
    """One slice of TCPAccessLogEntry."""

    RBAC = NETWORK_RBAC

    def __init__(self, entries: Entries, known: KnownParties, tracker: ConnectionTracker) -> None:
        super().__init__(entries, known)
        self._tracker = tracker

    @cached_property
    def events(self) -> npt.NDArray[np.int64]:
        """The `Event` of each entry."""
        kinds = self.entries.numbers(COMMON + "access_log_type")
        events = np.full(len(kinds), Event.CONTINUE, dtype=np.int64)
        events[np.isin(kinds, _OPENS)] = Event.OPEN
        events[np.isin(kinds, _CLOSES)] = Event.CLOSE
        goes_on = (kinds == _UNSET) & self.entries.numbers(COMMON + "intermediate_log_entry")
        events[goes_on] = Event.CONTINUE
        return events

    @cached_property
    def steps(self) -> Steps:
        """What each entry adds. The one loop over entries in Python: what it needs is between entries."""
        entries = self.entries
        columns = (
            entries.at(COMMON + "stream_id").to_pylist(),
            self.events.tolist(),
            self.starts.tolist(),
            entries.numbers("connection_properties.received_bytes").tolist(),
            entries.numbers("connection_properties.sent_bytes").tolist(),
            numbers(pc.invert(is_empty(entries.at(COMMON + "upstream_cluster")))).tolist(),
        )
        return self._tracker.step(map(Report, *columns))

    # --- one method a column; its name is the column's ---

    def timestamp(self) -> pa.Array:
        """The start and what has passed since, which Envoy tells of an opening (nothing) and of an end."""
        told = self.entries.present(COMMON + "duration") | (self.events == Event.OPEN)
        return instants(np.where(told, self.moments(self.micros(COMMON + "duration")), self.entries.now))

    def connection_event(self) -> pa.Array:
        """By Mixer's words."""
        return named(self.events, _EVENTS)

    def verdict(self) -> pa.Array:
        """What mixer said, else what Envoy's details let one conclude."""
        told = self.entries.metadata.text(_VERDICT)
        failed = pc.match_substring(self.entries.at(COMMON + "connection_termination_details"), "ext_authz_error")
        return text_or(told, pc.if_else(failed, "error", "none"))

    def destination_service_namespace(self) -> pa.Array:
        """The host's, else the server's."""
        return text_or(self.parties["destination_service_namespace"], self.parties["destination_namespace"])

    def connection_received_bytes(self) -> pa.Array:
        """Since the connection's report before."""
        return pa.array(self.steps.received, pa.uint64())

    def connection_sent_bytes(self) -> pa.Array:
        """Since the connection's report before."""
        return pa.array(self.steps.sent, pa.uint64())
