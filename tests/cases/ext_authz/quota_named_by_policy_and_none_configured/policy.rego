package envoy.authz

allow := {"allowed": true, "quotas": [{"name": "unknown-one"}]}
