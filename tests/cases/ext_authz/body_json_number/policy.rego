package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == 42
	input.truncated_body == false
}
