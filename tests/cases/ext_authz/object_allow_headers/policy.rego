package envoy.authz

allow := {"allowed": true, "headers": {"x-user": "ann", "x-roles": ["a", "b"]}, "request_headers_to_remove": ["x-old"]}
