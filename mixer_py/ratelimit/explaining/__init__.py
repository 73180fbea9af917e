"""Limits as people ask about them: which rule a descriptor matches and why, and what stands in its counter.

Not for: requests (`ratelimit/answering/`).
"""
