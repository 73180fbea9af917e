package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"a": 1}
	input.truncated_body == false
}
