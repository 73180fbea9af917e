package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {}
	input.truncated_body == false
}
