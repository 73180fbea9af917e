package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == "a\ufffd\ufffd"
	input.truncated_body == false
}
