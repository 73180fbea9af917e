package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"a": "\ufffd", "b": "\\ud800"}
	input.truncated_body == false
}
