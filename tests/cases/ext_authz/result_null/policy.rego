package envoy.authz

allow := null
