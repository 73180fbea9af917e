package envoy.authz

import input.attributes.request.http as http_request

default allow := false

allow if {
	not odd_path
	some role in claims.roles
	some grant in data.access.grants[role]
	http_request.method in grant.methods
	grant.path == array.slice(input.parsed_path, 0, count(grant.path))
}

token := value if {
	[scheme, value] := split(http_request.headers.authorization, " ")
	scheme in {"Bearer", "bearer"}
}

# Issuer, audience and algorithm are the bundle's, never the token's own. A token that never ends is none.
claims := payload if {
	[valid, _, payload] := io.jwt.decode_verify(token, {
		"cert": json.marshal(data.jwks),
		"alg": data.access.algorithm,
		"iss": data.access.issuer,
		"aud": data.access.audience,
	})
	valid
	is_number(payload.exp)
	is_string(payload.sub)
}

# Services disagree on what such paths mean, so they get no access by what they begin with.
odd_path if {
	some index, segment in input.parsed_path
	segment == ""
	index < count(input.parsed_path) - 1
}

odd_path if {
	some segment in input.parsed_path
	segment in {".", ".."}
}

odd_path if {
	some segment in input.parsed_path
	some character in ["/", "\\", ";", "%"]
	contains(segment, character)
}

result["allowed"] := allow

result["headers"] := {"x-user": claims.sub} if allow

result["headers"] := {"www-authenticate": "Bearer"} if not claims

result["http_status"] := 401 if not claims

result["body"] := reason if not allow

result["reasons"] := [reason] if not allow

default reason := "the request is not allowed"

reason := "a bearer token is needed" if not token

reason := "the token is not valid" if {
	token
	not claims
}

reason := sprintf("no role of %s allows this %s", [claims.sub, http_request.method]) if claims
