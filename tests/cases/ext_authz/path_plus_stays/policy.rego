package envoy.authz

allow if input.parsed_path == ["a+b"]

allow := false if not input.parsed_path == ["a+b"]
