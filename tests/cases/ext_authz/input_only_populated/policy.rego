package envoy.authz

default allow := false

allow if {
	not "body" in object.keys(input.attributes.request.http)
	not "principal" in object.keys(input.attributes.source)
	not "source_principal" in object.keys(input)
	input.attributes.metadataContext == {}
}
