# The form of OPA's Envoy tutorial: roles from a table, grants by role, the user out of basic authentication, and a
# result built of partial object rules. This is what the budgets of a check are measured with.
package envoy.authz

import rego.v1

default allow := false

allow if {
	some role in roles[user]
	some grant in grants[role]
	grant.method == input.attributes.request.http.method
	grant.path == input.parsed_path[0]
}

result["allowed"] := allow

result["headers"] := {"x-validated-by": "mixer"}

result["http_status"] := 403 if not allow

result["body"] := "not permitted" if not allow

roles := {"alice": ["guest"], "bob": ["admin"], "carol": ["auditor", "guest"]}

grants := {
	"guest": [{"method": "GET", "path": "reviews"}],
	"admin": [{"method": "GET", "path": "reviews"}, {"method": "POST", "path": "reviews"}],
	"auditor": [{"method": "GET", "path": "audit"}],
}

user := name if {
	[_, encoded] := split(input.attributes.request.http.headers.authorization, " ")
	[name, _] := split(base64.decode(encoded), ":")
}
