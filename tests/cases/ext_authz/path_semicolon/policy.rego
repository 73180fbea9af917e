package envoy.authz

allow if input.parsed_path == ["a;b=1", "c"]

allow := false if not input.parsed_path == ["a;b=1", "c"]
