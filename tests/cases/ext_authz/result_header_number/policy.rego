package envoy.authz

allow := {"allowed": true, "headers": {"x-n": 3}}
