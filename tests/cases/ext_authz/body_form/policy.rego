package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"a": ["1", "2"], "b": ["x y"]}
	input.truncated_body == false
}
