package envoy.authz

allow := {"allowed": false, "reasons": ["not an admin", "outside of hours"]}
