package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	is_string(input.attributes.request.http.size)
	time.parse_rfc3339_ns(input.attributes.request.time) > 0
}
