package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"n": 9007199254740993}
	input.truncated_body == false
}
