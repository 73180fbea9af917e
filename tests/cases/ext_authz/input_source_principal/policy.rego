package envoy.authz

default allow := false

allow if {
	input.source_principal == "spiffe://cluster.local/ns/shop/sa/cart"
	input.attributes.source.principal == input.source_principal
}
