package envoy.authz_test

import data.envoy.authz

roles := {
	"users": {"ann": ["guest"], "bob": ["guest", "admin"]},
	"actions": {
		"guest": [{"method": "GET", "path": ["people"]}],
		"admin": [{"method": "POST", "path": ["people"]}],
	},
}

request(method, path, authorization) := {
	"attributes": {"request": {"http": {"method": method, "headers": {"authorization": authorization}}}},
	"parsed_path": path,
}

basic(user) := sprintf("Basic %s", [base64.encode(sprintf("%s:password", [user]))])

decide(method, path, authorization) := answer if {
	answer := authz.result with input as request(method, path, authorization) with data.roles as roles
}

test_allowed[name] if {
	some name, asked in {
		"a guest reads": ["GET", ["people", "3"], "ann"],
		"an admin reads": ["GET", ["people"], "bob"],
		"an admin writes": ["POST", ["people"], "bob"],
	}
	answer := decide(asked[0], asked[1], basic(asked[2]))
	answer.allowed
	answer.headers == {"x-user": asked[2]}
}

test_denied[name] if {
	some name, asked in {
		"a guest writes": ["POST", ["people"], "ann"],
		"a stranger": ["GET", ["people"], "eve"],
		"another path": ["GET", ["peoples"], "ann"],
		"two slashes": ["GET", ["", "people"], "ann"],
		"small letters": ["get", ["people"], "ann"],
	}
	answer := decide(asked[0], asked[1], basic(asked[2]))
	not answer.allowed
	answer.reasons == [sprintf("%s may not %s /%s", [asked[2], asked[0], concat("/", asked[1])])]
}

test_no_user[name] if {
	some name, authorization in {"none": "", "bearer": "Bearer x", "no base64": "Basic %%%", "no colon": "Basic YW5u"}
	answer := decide("GET", ["people"], authorization)
	not answer.allowed
	answer.http_status == 401
	answer.reasons == ["no user is named"]
}
