package envoy.authz

allow := {"allowed": false, "body": 3}
