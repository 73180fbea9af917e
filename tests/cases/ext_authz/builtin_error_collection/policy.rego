package envoy.authz

default allow := false

allow if {
	some role in input.parsed_body.roles
	role == "admin"
}
