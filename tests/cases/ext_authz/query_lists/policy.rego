package envoy.authz

allow := {"allowed": input.parsed_query == {"a": ["1", "2"], "b": [""], "c": [""], "d": ["x y z"], "e": ["&"]}}
