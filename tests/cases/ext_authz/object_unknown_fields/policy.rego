package envoy.authz

allow := {"allowed": true, "colour": "blue", "http_status": "ignored"}
