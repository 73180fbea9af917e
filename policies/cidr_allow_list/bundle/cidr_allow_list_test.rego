package envoy.authz_test

import data.envoy.authz

access := {
	"networks": {
		"everywhere": ["0.0.0.0/0", "::/0"],
		"office": ["10.20.0.0/16", "2001:db8:20::/48"],
		"build": ["10.30.7.0/24"],
		"blocked": ["203.0.113.0/24"],
	},
	"areas": [
		{"path": [], "networks": ["everywhere"]},
		{"path": ["admin"], "networks": ["office"]},
		{"path": ["admin", "deploy"], "networks": ["build"]},
	],
}

request(path, address) := {
	"attributes": {
		"source": {"address": {"socketAddress": {"address": address}}},
		"request": {"http": {"headers": {"x-forwarded-for": "10.20.0.1"}}},
	},
	"parsed_path": path,
}

decide(path, address) := answer if {
	answer := authz.result with input as request(path, address) with data.access as access
}

test_allowed[name] if {
	some name, asked in {
		"everywhere": [["books"], "198.51.100.7"],
		"everywhere, IPv6": [["books"], "2001:db8::1"],
		"office": [["admin", "users"], "10.20.255.255"],
		"office, IPv6": [["admin"], "2001:db8:20:1::1"],
		"build": [["admin", "deploy", "7"], "10.30.7.1"],
		"an IPv4 address as IPv6": [["admin"], "::ffff:10.20.0.1"],
	}
	decide(asked[0], asked[1]).allowed
}

test_denied[name] if {
	some name, asked in {
		"outside": [["admin"], "198.51.100.7"],
		"beside the office": [["admin"], "10.21.0.0"],
		"the office where only the build may": [["admin", "deploy"], "10.20.0.1"],
		"the build where only the office may": [["admin", "users"], "10.30.7.1"],
	}
	answer := decide(asked[0], asked[1])
	not answer.allowed
	answer.reasons == [sprintf("%s may not reach this", [asked[1]])]
}

test_blocked if {
	answer := decide(["books"], "203.0.113.9")
	not answer.allowed
	answer.reasons == ["203.0.113.9 is blocked"]
}

test_paths_that_lead_elsewhere[name] if {
	some name, path in {
		"dots": ["books", "..", "admin"],
		"two slashes": ["", "admin"],
		"encoded slash": ["books/../admin"],
		"doubly encoded": ["%61dmin"],
	}
	answer := decide(path, "198.51.100.7")
	not answer.allowed
	answer.reasons == ["the path is ambiguous"]
}

test_no_address[name] if {
	some name, address in {"text": "somewhere", "empty": "", "with a zone": "fe80::1%eth0"}
	not decide(["books"], address).allowed
}

test_a_pipe_has_no_address if {
	answer := authz.result with input as {"parsed_path": ["books"]} with data.access as access
	not answer.allowed
	answer.reasons == ["the caller has no address"]
}
