package envoy.authz

default allow := false

allow if input.parsed_body.a + (1 * 2) > 1

allow if 10 / input.parsed_body.b > 1

allow if 10 % input.parsed_body.b > 1
