package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"fee": "Infinity", "weight": "NaN"}
	input.truncated_body == false
}
