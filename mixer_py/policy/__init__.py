"""Decide: Rego engines behind one Protocol, with opa-envoy-plugin's input and result."""
