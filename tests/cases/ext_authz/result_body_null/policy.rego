package envoy.authz

allow := {"allowed": false, "body": null}
