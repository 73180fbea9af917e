package envoy.authz

default allow := false

allow if {
	not "parsed_body" in object.keys(input)
	not "truncated_body" in object.keys(input)
}
