"""ShouldRateLimit: from a request of Envoy's `ratelimit` filter to its answer.

`limiter.py` has the order: `requests.py` says what is charged, or `known.py` knows it; a store charges it;
`responses.py` answers, with the words of `wording.py`. Not for: calls and their time (`services/rate_limit.py`), or
quotas of checks (`ratelimit/quotas/`).
"""
