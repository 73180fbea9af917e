package envoy.authz

allow := {"allowed": false, "http_status": 401, "body": "who are you?", "headers": {"www-authenticate": "Basic"}}
