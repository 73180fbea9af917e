package envoy.authz

import input.attributes.request.http as http_request

default allow := false

allow if plan

# Keys are kept as digests: who reads the bundle cannot call with them.
customer := data.customers[crypto.sha256(http_request.headers["x-api-key"])]

plan := data.plans[customer.plan]

# What a request costs: the dearest of the prices that its path begins with, and 1 where there is none.
cost := max({1} | {price.hits |
	some price in data.prices
	http_request.method in price.methods
	price.path == array.slice(input.parsed_path, 0, count(price.path))
})

result["allowed"] := allow

# What mixer charges: a quota of the plan's name counts its customers apart.
result["quotas"] := [{"name": customer.plan, "key": customer.name, "hits": cost}] if allow

# For the access log, and for filters behind this one.
result["dynamic_metadata"] := {"quota_customer": customer.name, "quota_plan": customer.plan, "quota_cost": cost} if allow

result["headers"] := {"x-customer": customer.name, "x-quota-plan": customer.plan} if allow

result["request_headers_to_remove"] := ["x-api-key"]

result["http_status"] := 401 if not customer

result["body"] := reason if not allow

result["reasons"] := [reason] if not allow

default reason := "the request is not allowed"

reason := "an API key is needed" if not http_request.headers["x-api-key"]

reason := "this API key is not known" if {
	http_request.headers["x-api-key"]
	not customer
}

reason := sprintf("%s has no plan", [customer.name]) if {
	customer
	not plan
}
