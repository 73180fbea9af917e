package envoy.authz

allow := {"allowed": true, "response_headers_to_add": [{"x-a": ["1", "2"]}, {"x-b": "3"}]}
