"""Envoy's access logs as columns: bytes through the projection to rows of `requests`, no Python object an entry."""
