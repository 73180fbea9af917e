package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"foo": ["bar"]}
	input.truncated_body == false
}
