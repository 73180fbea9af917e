package envoy.authz

default allow := false

allow if {
	input.attributes.source.address.socketAddress.portValue == 41234
	input.attributes.destination.address.socketAddress.address == "10.1.2.4"
}
