package envoy.authz

allow := {"allowed": true, "headers": 1}
