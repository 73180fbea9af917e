package envoy.authz

allow := {"allowed": true, "dynamic_metadata": null}
