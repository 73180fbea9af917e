package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"a b": ["\ufffd\ufffd", "é"]}
	input.truncated_body == false
}
