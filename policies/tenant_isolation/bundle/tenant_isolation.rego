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
	not refusal
	claims.tenant == tenant
}

# Support looks into every tenant and changes nothing.
allow if {
	not refusal
	"support" in claims.roles
	http_request.method in {"GET", "HEAD"}
}

# /tenants/NAME/…
tenant := input.parsed_path[1] if {
	input.parsed_path[0] == "tenants"
	input.parsed_path[1] in object.keys(data.tenants)
}

refusal := "a token is needed" if not user

refusal := "there is no such tenant" if {
	user
	not tenant
}

refusal := sprintf("tenant %s is suspended", [tenant]) if {
	user
	data.tenants[tenant].suspended
}

refusal := "the path is ambiguous" if {
	user
	tenant
	not data.tenants[tenant].suspended
	odd_path
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

# The service trusts this header and no other: what a client sent under its name is replaced.
result["headers"] := {"x-tenant": tenant} if allow

result["dynamic_metadata"] := {"tenant": tenant} if allow

result["http_status"] := 401 if not user

result["http_status"] := 404 if {
	user
	not tenant
}

result["body"] := reason if not allow

result["reasons"] := [reason] if not allow

default reason := "the request is not allowed"

reason := refusal

reason := sprintf("%s belongs to another tenant than %s", [user, tenant]) if {
	not refusal
	not allow
}
