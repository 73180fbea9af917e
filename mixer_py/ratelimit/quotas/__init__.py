"""Quotas on attributes: what a check that the policy allowed is charged, and what came of it.

Not for: descriptors of the rate limit service (`ratelimit/answering/`).
"""
