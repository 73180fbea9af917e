package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"readerName": "ann"}
	input.truncated_body == false
}
