package envoy.authz

default allow := true

pay := {"allowed": false, "http_status": 401, "body": "pay is closed", "reasons": ["closed"]}
