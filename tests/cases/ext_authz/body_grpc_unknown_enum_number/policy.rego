package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"kind": 9}
	input.truncated_body == false
}
