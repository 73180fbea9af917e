package envoy.authz

default allow := false

allow if {
	input.attributes.request.time == {"seconds": 1795515630, "nanos": 125000000}
	input.attributes.request.http.size == -1
}
