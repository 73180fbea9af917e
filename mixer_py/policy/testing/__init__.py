"""Run the tests that policies bring along: rules named `test_…`, as `opa test` runs them. Never on a request's path."""
