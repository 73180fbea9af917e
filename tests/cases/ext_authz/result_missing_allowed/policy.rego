package envoy.authz

allow := {"http_status": 403}
