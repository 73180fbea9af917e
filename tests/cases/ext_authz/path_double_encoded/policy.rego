package envoy.authz

allow if input.parsed_path == ["a%2Fb"]

allow := false if not input.parsed_path == ["a%2Fb"]
