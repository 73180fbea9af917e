"""Which listener uses which transport, and why: for people who read the log. Not for: carrying calls."""

from __future__ import annotations

from collections.abc import Mapping

from mixer_py.config.server import STREAMING, ListenerSettings


def describe_transport(listener: ListenerSettings) -> Mapping[str, object]:
    """Where it listens, by which transport, for what, and the reason."""
    services = listener.service_names
    streams = [name for name in services if name in STREAMING]
    if listener.address.internal:
        why = "it is inside the Envoy that carries the traffic, so no call leaves the process"
    elif listener.transport == "envoy":
        why = "the settings say so; a single call costs less CPU, and nothing here is a stream"
    elif streams:
        why = f"{' and '.join(streams)} speak in streams, which only grpcio carries"
    else:
        why = "it is the default; envoy would carry these services with less CPU"
    return {
        "address": str(listener.address),
        "transport": listener.transport,
        "services": list(services),
        "why": why.replace("speak", "speaks") if len(streams) == 1 else why,
    }
