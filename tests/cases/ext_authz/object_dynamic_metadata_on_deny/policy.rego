package envoy.authz

allow := {"allowed": false, "dynamic_metadata": {"why": "closed"}}
