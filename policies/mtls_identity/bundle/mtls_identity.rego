package envoy.authz

import input.attributes.request.http as http_request

# Envoy has verified the client's certificate; its SPIFFE name is the caller's identity, its own the service's.
caller := input.attributes.source.principal

service := input.attributes.destination.principal

default allow := false

allow if {
	some rule in data.mesh.services[service]
	is_caller(rule)
	http_request.method in rule.methods
	rule.path == array.slice(input.parsed_path, 0, count(rule.path))
	not odd_path
}

is_caller(rule) if rule.caller == caller

# spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT, as Istio names workloads
is_caller(rule) if {
	parts := split(caller, "/")
	count(parts) == 7
	array.slice(parts, 0, 6) == ["spiffe:", "", data.mesh.trust_domain, "ns", rule.namespace, "sa"]
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

result["headers"] := {"x-caller": caller} if allow

result["http_status"] := 401 if not caller

result["body"] := reason if not allow

result["reasons"] := [reason] if not allow

default reason := "the request is not allowed"

reason := "a client certificate is needed" if not caller

reason := "there are no rules for this service" if {
	caller
	not data.mesh.services[service]
}

reason := sprintf("%s may not call %s like this", [caller, service]) if {
	caller
	data.mesh.services[service]
	not allow
}
