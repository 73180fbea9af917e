package envoy.authz

default allow := false

allow if {
	input.parsed_body == null
	not input.attributes.request.http.headers
	input.attributes.request.http.headerMap.headers[1] == {"key": "x-a", "rawValue": base64.encode("1")}
}
