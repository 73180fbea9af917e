package envoy.authz_test

import data.envoy.authz

reviews := "spiffe://cluster.local/ns/shop/sa/reviews"

page := "spiffe://cluster.local/ns/shop/sa/productpage"

mesh := {
	"trust_domain": "cluster.local",
	"services": {reviews: [
		{"caller": page, "methods": ["GET"], "path": ["reviews"]},
		{"namespace": "monitoring", "methods": ["GET"], "path": ["health"]},
	]},
}

request(caller, service, method, path) := {
	"attributes": {
		"source": {"principal": caller},
		"destination": {"principal": service},
		"request": {"http": {"method": method}},
	},
	"parsed_path": path,
}

decide(caller, service, method, path) := answer if {
	answer := authz.result with input as request(caller, service, method, path) with data.mesh as mesh
}

test_a_caller_by_name if decide(page, reviews, "GET", ["reviews", "7"]).headers == {"x-caller": page}

test_a_caller_by_namespace if {
	decide("spiffe://cluster.local/ns/monitoring/sa/prometheus", reviews, "GET", ["health"]).allowed
}

test_denied[name] if {
	some name, asked in {
		"method": [page, "POST", ["reviews", "7"]],
		"path": [page, "GET", ["health"]],
		"account": ["spiffe://cluster.local/ns/shop/sa/ratings", "GET", ["reviews"]],
		"trust domain": ["spiffe://evil.example/ns/monitoring/sa/prometheus", "GET", ["health"]],
		"namespace": ["spiffe://cluster.local/ns/monitoring2/sa/prometheus", "GET", ["health"]],
		"more parts": ["spiffe://cluster.local/ns/monitoring/sa/prometheus/x", "GET", ["health"]],
		"no SPIFFE name": ["https://cluster.local/ns/monitoring/sa/prometheus", "GET", ["health"]],
		"dots": [page, "GET", ["reviews", "..", "admin"]],
		"empty part": [page, "GET", ["reviews", "", "admin"]],
	}
	answer := decide(asked[0], reviews, asked[1], asked[2])
	not answer.allowed
	answer.reasons == [sprintf("%s may not call %s like this", [asked[0], reviews])]
}

test_a_service_without_rules if {
	answer := decide(page, "spiffe://cluster.local/ns/shop/sa/details", "GET", ["reviews"])
	not answer.allowed
	answer.reasons == ["there are no rules for this service"]
}

test_without_a_certificate if {
	asked := {"attributes": {"request": {"http": {"method": "GET"}}}, "parsed_path": ["reviews"]}
	answer := authz.result with input as asked with data.mesh as mesh
	not answer.allowed
	answer.http_status == 401
	answer.reasons == ["a client certificate is needed"]
}
