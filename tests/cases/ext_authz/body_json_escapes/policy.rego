package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == ["\"", "\\", "/", "/", "\b", "\f", "\n", "\r", "\t", "A", "😀"]
	input.truncated_body == false
}
