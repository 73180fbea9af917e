"""Read back what telemetry wrote."""
