package envoy.authz

default allow := false

allow if {
	[_, encoded] := split(input.attributes.request.http.headers.authorization, " ")
	base64.decode(encoded) == "ann:password"
}
