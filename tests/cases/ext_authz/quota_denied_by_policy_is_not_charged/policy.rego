package envoy.authz

allow := input.attributes.request.http.method == "GET"
