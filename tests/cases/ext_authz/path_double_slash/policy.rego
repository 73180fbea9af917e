package envoy.authz

allow if input.parsed_path == ["admin", "people"]

allow := false if not input.parsed_path == ["admin", "people"]
