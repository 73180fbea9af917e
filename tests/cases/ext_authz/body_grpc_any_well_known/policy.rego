package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"extra": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "3s"}}
	input.truncated_body == false
}
