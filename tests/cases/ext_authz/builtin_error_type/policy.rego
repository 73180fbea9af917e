package envoy.authz

default allow := false

allow if startswith(input.parsed_body.name, "a")
