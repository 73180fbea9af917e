package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body.n == 1
	input.parsed_body.e == 100000
	input.parsed_body.m == 18446744073709551615
}
