package envoy.authz

allow := {"allowed": true, "reasons": 3}
