package envoy.authz

allow := {"allowed": true, "request_headers_to_remove": {"x-a": true}}
