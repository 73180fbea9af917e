package envoy.authz

allow if input.parsed_path == [""]

allow := false if not input.parsed_path == [""]
