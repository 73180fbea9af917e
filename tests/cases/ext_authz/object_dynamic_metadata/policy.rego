package envoy.authz

allow := {"allowed": true, "dynamic_metadata": {"tier": "gold", "weight": 2.5, "nested": {"a": [1, true, null]}, "decision_id": "forged", "mixer_verdict": "forged"}}
