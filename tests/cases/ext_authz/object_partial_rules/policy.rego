package envoy.authz

default allowed := false

allowed if user == "ann"

user := name if {
	[_, encoded] := split(input.attributes.request.http.headers.authorization, " ")
	[name, _] := split(base64url.decode(encoded), ":")
}

allow["allowed"] := allowed

allow["headers"] := {"x-user": user}

allow["http_status"] := 401 if not allowed
