package envoy.authz

allow := {"allowed": input.parsed_query == {}}
