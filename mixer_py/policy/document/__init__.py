"""What a policy sees: opa-envoy-plugin's input document from a CheckRequest."""
