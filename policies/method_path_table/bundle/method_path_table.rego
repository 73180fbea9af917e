package envoy.authz

import input.attributes.request.http as http_request

# Envoy's jwt_authn filter has verified the token and passes its claims on: see README.md.
claims := input.attributes.metadataContext.filterMetadata["envoy.filters.http.jwt_authn"].jwt_payload

user := claims.sub if {
	is_string(claims.sub)
	claims.sub != ""
}

default allow := false

allow if {
	not odd_path
	some role in roles
	role in wanted
}

# The roles that the table's rows give this request to. What no row is for is nobody's.
wanted contains role if {
	some route in data.table[http_request.method]
	count(route.path) == count(input.parsed_path)
	every index, part in route.path {
		part in {"*", input.parsed_path[index]}
	}
	some role in route.roles
}

# A last part ** stands for one or more segments.
wanted contains role if {
	some route in data.table[http_request.method]
	fixed := count(route.path) - 1
	route.path[fixed] == "**"
	count(input.parsed_path) > fixed
	every index, part in array.slice(route.path, 0, fixed) {
		part in {"*", input.parsed_path[index]}
	}
	some role in route.roles
}

roles contains "anyone"

roles contains role if some role in claims.roles

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

result["headers"] := {"x-user": user} if allow

result["http_status"] := 401 if {
	not allow
	not user
}

result["body"] := reason if not allow

result["reasons"] := [reason] if not allow

default reason := "the request is not allowed"

reason := sprintf("the table has no %s of this path", [http_request.method]) if count(wanted) == 0

reason := "the path is ambiguous" if {
	count(wanted) > 0
	odd_path
}

reason := sprintf("this %s needs another role", [http_request.method]) if {
	count(wanted) > 0
	not odd_path
	not allow
}
