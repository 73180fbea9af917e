package envoy.authz

allow := {"allowed": true, "query_parameters_to_set": {"tenant": "t1"}, "query_parameters_to_remove": ["drop"]}
