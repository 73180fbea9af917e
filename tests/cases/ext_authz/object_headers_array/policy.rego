package envoy.authz

allow := {"allowed": true, "headers": [{"x-first": "1"}, {"x-second": "2", "x-third": ["3"]}]}
