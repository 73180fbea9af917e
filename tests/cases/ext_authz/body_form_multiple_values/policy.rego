package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"firstname": ["foo"], "lastname": ["bar", "foobar"], "": ["x"], "n": [""]}
	input.truncated_body == false
}
