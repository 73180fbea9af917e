package envoy.authz

allow if input.parsed_path == ["http:", "", "other.example", "admin"]

allow := false if not input.parsed_path == ["http:", "", "other.example", "admin"]
