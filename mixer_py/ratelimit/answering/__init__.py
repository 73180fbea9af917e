"""ShouldRateLimit: from a request of Envoy's `ratelimit` filter to its answer.

`limiter.py` has the order: `requests.py` says what is charged, a store charges it, `responses.py` answers.
Not for: bytes and calls (`services/rate_limit.py`), or quotas of checks (`ratelimit/quotas/`).
"""
