package envoy.authz

allow := {"allowed": true, "headers": {"x-customer": "acme"}}
