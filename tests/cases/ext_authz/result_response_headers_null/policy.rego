package envoy.authz

allow := {"allowed": true, "response_headers_to_add": null}
