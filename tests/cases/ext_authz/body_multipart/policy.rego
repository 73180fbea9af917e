package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"a": ["one", "two"], "j": [{"n": 1}]}
	input.truncated_body == false
}
