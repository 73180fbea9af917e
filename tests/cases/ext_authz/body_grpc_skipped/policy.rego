package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	not "parsed_body" in object.keys(input)
	not "truncated_body" in object.keys(input)
}
