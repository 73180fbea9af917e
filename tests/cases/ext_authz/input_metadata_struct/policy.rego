package envoy.authz

default allow := false

allow if {
	payload := input.attributes.metadataContext.filterMetadata["envoy.filters.http.jwt_authn"].payload
	payload == {"sub": "ann", "exp": 1795515630, "admin": true, "aud": ["a", "b"], "none": null}
	input.attributes.contextExtensions.route == "r1"
}
