package envoy.authz_test

import data.envoy.authz

customers := {
	crypto.sha256("key-of-acme"): {"name": "acme", "plan": "gold"},
	crypto.sha256("key-of-initech"): {"name": "initech", "plan": "ended"},
}

plans := {"gold": {"per_minute": 600}}

prices := [{"methods": ["POST"], "path": ["reports"], "hits": 20}, {"methods": ["POST"], "path": [], "hits": 2}]

request(method, path, headers) := {
	"attributes": {"request": {"http": {"method": method, "headers": headers}}},
	"parsed_path": path,
}

decide(method, path, headers) := answer if {
	answer := authz.result with input as request(method, path, headers)
		with data.customers as customers
		with data.plans as plans
		with data.prices as prices
}

test_what_a_request_costs[name] if {
	some name, asked in {
		"the dearest price": ["POST", ["reports", "7"], 20],
		"another price": ["POST", ["books"], 2],
		"no price": ["GET", ["reports"], 1],
	}
	answer := decide(asked[0], asked[1], {"x-api-key": "key-of-acme"})
	answer.allowed
	answer.quotas == [{"name": "gold", "key": "acme", "hits": asked[2]}]
	answer.dynamic_metadata == {"quota_customer": "acme", "quota_plan": "gold", "quota_cost": asked[2]}
}

test_the_service_does_not_see_the_key if {
	decide("GET", ["books"], {"x-api-key": "key-of-acme"}).request_headers_to_remove == ["x-api-key"]
}

test_no_key if {
	answer := decide("GET", ["books"], {})
	not answer.allowed
	answer.http_status == 401
	answer.reasons == ["an API key is needed"]
}

test_an_unknown_key if {
	answer := decide("GET", ["books"], {"x-api-key": "guessed"})
	not answer.allowed
	answer.http_status == 401
	answer.reasons == ["this API key is not known"]
}

test_a_digest_is_no_key if not decide("GET", ["books"], {"x-api-key": crypto.sha256("key-of-acme")}).allowed

test_a_plan_that_is_none if {
	answer := decide("GET", ["books"], {"x-api-key": "key-of-initech"})
	not answer.allowed
	answer.reasons == ["initech has no plan"]
}
