package envoy.authz

allowed := input.attributes.request.http.method == "GET"

headers := {"x-package": "yes"}
