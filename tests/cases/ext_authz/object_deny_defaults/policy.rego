package envoy.authz

allow := {"allowed": false}
