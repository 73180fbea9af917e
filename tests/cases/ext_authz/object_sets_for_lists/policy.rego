package envoy.authz

allow := {"allowed": true, "request_headers_to_remove": {"x-gone"}, "query_parameters_to_remove": {"drop"}}
