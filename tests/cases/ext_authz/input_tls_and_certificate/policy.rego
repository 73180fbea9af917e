package envoy.authz

default allow := false

allow if {
	input.attributes.tlsSession.sni == "service.example"
	input.attributes.source == {"service": "cart", "labels": {"app": "cart"}, "certificate": "pem", "principal": "p"}
}
