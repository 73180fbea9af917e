package envoy.authz

allow := {"allowed": false, "headers": {":status": "200"}}
