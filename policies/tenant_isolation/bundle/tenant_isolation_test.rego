package envoy.authz_test

import data.envoy.authz

tenants := {"acme": {}, "globex": {}, "initech": {"suspended": true}}

request(method, path, claims) := {
	"attributes": {
		"request": {"http": {"method": method}},
		"metadataContext": {"filterMetadata": {"envoy.filters.http.jwt_authn": {"jwt_payload": claims}}},
	},
	"parsed_path": path,
}

decide(method, path, claims) := answer if {
	answer := authz.result with input as request(method, path, claims) with data.tenants as tenants
}

ann := {"sub": "ann", "tenant": "acme"}

sue := {"sub": "sue", "roles": ["support"]}

test_own_tenant if {
	answer := decide("POST", ["tenants", "acme", "orders"], ann)
	answer.allowed
	answer.headers == {"x-tenant": "acme"}
	answer.dynamic_metadata == {"tenant": "acme"}
}

test_another_tenant if {
	answer := decide("GET", ["tenants", "globex", "orders"], ann)
	not answer.allowed
	answer.reasons == ["ann belongs to another tenant than globex"]
}

test_support_reads if decide("GET", ["tenants", "globex", "orders"], sue).allowed

test_support_changes_nothing if not decide("POST", ["tenants", "globex", "orders"], sue).allowed

test_nobody_enters_a_suspended_tenant[name] if {
	some name, claims in {"its own": {"sub": "ian", "tenant": "initech"}, "support": sue}
	answer := decide("GET", ["tenants", "initech"], claims)
	not answer.allowed
	answer.reasons == ["tenant initech is suspended"]
}

test_no_tenant_is_there[name] if {
	some name, path in {
		"unknown": ["tenants", "hooli"],
		"none": ["tenants"],
		"elsewhere": ["admin"],
		"slashes": ["", "tenants", "acme"],
		"root": [""],
	}
	answer := decide("GET", path, ann)
	not answer.allowed
	answer.http_status == 404
	answer.reasons == ["there is no such tenant"]
}

test_paths_that_lead_elsewhere[name] if {
	some name, path in {
		"dots": ["tenants", "acme", "..", "globex"],
		"encoded slash": ["tenants", "acme", "../globex"],
		"parameter": ["tenants", "acme", "..;", "globex"],
		"empty part": ["tenants", "acme", "", "orders"],
	}
	answer := decide("GET", path, ann)
	not answer.allowed
	answer.reasons == ["the path is ambiguous"]
}

test_a_token_is_needed[name] if {
	some name, claims in {"no claims": {}, "no subject": {"tenant": "acme"}, "no object": "ann"}
	answer := decide("GET", ["tenants", "acme"], claims)
	not answer.allowed
	answer.http_status == 401
}

test_a_tenant_that_is_no_text if not decide("GET", ["tenants", "acme"], {"sub": "ann", "tenant": ["acme"]}).allowed
