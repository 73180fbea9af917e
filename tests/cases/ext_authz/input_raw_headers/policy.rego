package envoy.authz

default allow := false

allow if {
	input.parsed_body == null
	input.truncated_body == false
	not input.attributes.request.http.headers
	some header in input.attributes.request.http.headerMap.headers
	header == {"key": "x-a", "rawValue": base64.encode("1")}
}
