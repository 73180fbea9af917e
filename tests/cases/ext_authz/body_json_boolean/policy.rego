package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == true
	input.truncated_body == false
}
