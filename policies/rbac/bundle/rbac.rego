package envoy.authz

import input.attributes.request.http as http_request

default allow := false

allow if {
	some role in data.roles.users[user]
	some action in data.roles.actions[role]
	action.method == http_request.method
	action.path == array.slice(input.parsed_path, 0, count(action.path))
}

user := name if {
	[scheme, encoded] := split(http_request.headers.authorization, " ")
	lower(scheme) == "basic"
	[name, _] := split(base64.decode(encoded), ":")
}

result["allowed"] := allow

result["headers"] := {"x-user": user} if allow

result["headers"] := {"www-authenticate": "Basic realm=\"services\""} if not user

result["request_headers_to_remove"] := ["authorization"]

result["http_status"] := 401 if not user

result["body"] := reason if not allow

result["reasons"] := [reason] if not allow

default reason := "the request is not allowed"

reason := "no user is named" if not user

reason := sprintf("%s may not %s /%s", [user, http_request.method, concat("/", input.parsed_path)]) if user
