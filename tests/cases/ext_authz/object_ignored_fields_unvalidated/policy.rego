package envoy.authz

allow := {"allowed": true, "body": 3, "http_status": "x", "cache_ttl": 5}
