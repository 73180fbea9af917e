package envoy.authz

allow := "<undefined>"
