package envoy.authz

allow := {"allowed": true, "cache_ttl": "soon"}
