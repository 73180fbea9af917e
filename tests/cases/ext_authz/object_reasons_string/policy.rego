package envoy.authz

allow := {"allowed": true, "reasons": "is an admin"}
