package envoy.authz

allow := {"allowed": true, "reasons": "is an admin", "cache_ttl": "1m30s"}
