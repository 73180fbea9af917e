# The same as tutorial.rego, and a reference that may read anything, so that nothing is projected and nothing cached.
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

allow if {
	some key
	input[key] == "never"
}
