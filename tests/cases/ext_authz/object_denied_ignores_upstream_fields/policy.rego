package envoy.authz

allow := {"allowed": false, "response_headers_to_add": 3, "request_headers_to_remove": "x"}
