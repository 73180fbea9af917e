package envoy.authz

allow := {"allowed": null}
