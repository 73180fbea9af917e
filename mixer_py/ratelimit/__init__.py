"""Counts: the rules of files, the quotas of checks, windows and buckets, and the stores that keep counters.

`answering/` and `quotas/` have what Envoy's two questions need; both charge a store of `stores/`, which counts by
`algorithms.py`. Not for: the calls of Envoy (`services/`).
"""
