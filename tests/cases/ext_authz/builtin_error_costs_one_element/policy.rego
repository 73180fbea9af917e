package envoy.authz

default allow := false

allow if {
	some name in input.parsed_body.names
	upper(name) == "ANN"
}
