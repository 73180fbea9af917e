package envoy.authz

allow := {"allowed": false, "headers": [{"set-cookie": ["a=1", "b=2"]}, {"Set-Cookie": "c=3"}], "http_status": 401}
