"""The whole of mixer-py on one machine, with a real Envoy."""
