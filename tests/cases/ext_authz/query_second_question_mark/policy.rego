package envoy.authz

allow := {"allowed": input.parsed_query == {"a": ["1?b=2"]}}
