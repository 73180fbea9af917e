package envoy.authz

method := input.attributes.request.http.method

quotas.POST := [{"name": "by-plan", "key": ["acme"], "hits": 3}]

quotas.PATCH := [{"name": "by-plan"}]

quotas.DELETE := [{"name": "by-plan", "key": "deletions"}]

allow := {"allowed": true, "quotas": object.get(quotas, method, [])}
