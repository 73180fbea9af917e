package envoy.authz

allow if input.parsed_path == ["caf\u00e9"]

allow := false if not input.parsed_path == ["caf\u00e9"]
