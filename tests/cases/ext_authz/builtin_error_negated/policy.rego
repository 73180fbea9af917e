package envoy.authz

default allow := false

allow if not startswith(input.parsed_body.name, "root")
