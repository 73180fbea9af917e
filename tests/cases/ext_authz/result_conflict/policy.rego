package envoy.authz

allow := true if input.parsed_path

allow := false if input.parsed_query
