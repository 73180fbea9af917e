package envoy.authz

allow if input.parsed_path == ["service.example:443"]

allow := false if not input.parsed_path == ["service.example:443"]
