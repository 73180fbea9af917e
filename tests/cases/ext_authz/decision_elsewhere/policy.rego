package envoy.authz

import rego.v1

response := {"allowed": true, "headers": {"x-by": "response"}}
