package envoy.authz

allow := {"allowed": false, "http_status": 202, "body": "later"}
