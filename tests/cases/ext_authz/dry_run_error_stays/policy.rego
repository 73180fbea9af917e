package envoy.authz

allow := 3
