"""Names that Istio gave: its standard metrics, their labels and buckets (reference/mixer.md 3).

Not for: values (`istio_metrics.py`).
"""

from __future__ import annotations

from typing import Final

LABELS: Final = (
    "reporter", "source_workload", "source_canonical_service", "source_canonical_revision",
    "source_workload_namespace", "source_principal", "source_app", "source_version", "source_cluster",
    "destination_workload", "destination_workload_namespace", "destination_principal", "destination_app",
    "destination_version", "destination_service", "destination_canonical_service", "destination_canonical_revision",
    "destination_service_name", "destination_service_namespace", "destination_cluster", "request_protocol",
    "response_code", "grpc_response_status", "response_flags", "connection_security_policy",
)  # fmt: skip
"""The labels, in Istio's order."""

HTTP_ONLY: Final = frozenset(("response_code", "grpc_response_status"))
"""Labels that metrics of TCP connections do not have."""

BUCKETS: Final = (
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0, 30_000.0, 60_000.0,
    300_000.0, 600_000.0, 1_800_000.0, 3_600_000.0,
)  # fmt: skip
"""Envoy's default bounds, of all three histograms: milliseconds and bytes alike."""

DURATION: Final = "istio_request_duration_milliseconds"
REQUEST_BYTES: Final = "istio_request_bytes"
RESPONSE_BYTES: Final = "istio_response_bytes"
