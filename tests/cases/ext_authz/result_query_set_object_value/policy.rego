package envoy.authz

allow := {"allowed": true, "query_parameters_to_set": {"a": {"b": "c"}}}
