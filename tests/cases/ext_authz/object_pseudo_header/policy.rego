package envoy.authz

allow := {"allowed": true, "headers": {":path": "/new"}}
