"""Counts: rules, matching, windows and the stores that keep counters.

Not for: the calls of Envoy (`services/rate_limit.py`).
"""
