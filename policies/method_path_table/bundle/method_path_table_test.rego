package envoy.authz_test

import data.envoy.authz

table := {
	"GET": [
		{"path": ["books", "*"], "roles": ["anyone"]},
		{"path": ["books", "*", "sales"], "roles": ["editor"]},
		{"path": ["static", "**"], "roles": ["anyone"]},
	],
	"DELETE": [{"path": ["books", "*"], "roles": ["admin"]}],
}

request(method, path, claims) := {
	"attributes": {
		"request": {"http": {"method": method}},
		"metadataContext": {"filterMetadata": {"envoy.filters.http.jwt_authn": {"jwt_payload": claims}}},
	},
	"parsed_path": path,
}

decide(method, path, claims) := answer if {
	answer := authz.result with input as request(method, path, claims) with data.table as table
}

editor := {"sub": "eve", "roles": ["editor"]}

test_anyone_reads if decide("GET", ["books", "7"], {}).allowed

test_a_role_is_needed if {
	answer := decide("GET", ["books", "7", "sales"], {})
	not answer.allowed
	answer.http_status == 401
	answer.reasons == ["this GET needs another role"]
}

test_the_role_is_there if decide("GET", ["books", "7", "sales"], editor).headers == {"x-user": "eve"}

test_another_role if {
	answer := decide("DELETE", ["books", "7"], editor)
	not answer.allowed
	not answer.http_status
}

test_what_is_not_in_the_table[name] if {
	some name, asked in {
		"path": ["GET", ["people"]],
		"shorter": ["GET", ["books"]],
		"longer": ["GET", ["books", "7", "sales", "1"]],
		"method": ["PUT", ["books", "7"]],
		"method in small letters": ["get", ["books", "7"]],
		"nothing under it": ["GET", ["static"]],
	}
	answer := decide(asked[0], asked[1], editor)
	not answer.allowed
	answer.reasons == [sprintf("the table has no %s of this path", [asked[0]])]
}

test_any_depth[name] if {
	some name, path in {"one": ["static", "a.css"], "two": ["static", "img", "a.png"], "folder": ["static", "img", ""]}
	decide("GET", path, {}).allowed
}

test_paths_that_lead_elsewhere[name] if {
	some name, path in {
		"dots": ["static", "..", "books"],
		"dots for a star": ["books", ".."],
		"encoded slash": ["books", "../admin"],
		"empty part": ["static", "", "admin"],
		"parameter": ["static", "..;", "admin"],
	}
	answer := decide("GET", path, editor)
	not answer.allowed
	answer.reasons == ["the path is ambiguous"]
}

test_roles_that_are_no_list if not decide("DELETE", ["books", "7"], {"sub": "eve", "roles": "admin"}).allowed
