"""Speak Envoy: request bytes and deadline in, response bytes out."""
