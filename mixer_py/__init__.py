"""mixer-py: policy and telemetry engine for Envoy and Istio."""

__version__ = "0.1.0"
