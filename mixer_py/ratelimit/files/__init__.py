"""envoyproxy/ratelimit's files: found, read with their lines, and turned into declarations with every fault of theirs.

Not for: what the declarations mean for a request (`ratelimit/rules.py`).
"""
