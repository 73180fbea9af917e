"""Decide: Rego engines behind one Protocol, with opa-envoy-plugin's input and result.

Empty on purpose: the settings are read by processes that never decide, and those need no engine.
"""
