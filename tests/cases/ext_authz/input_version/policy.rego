package envoy.authz

default allow := false

allow if input.version == {"ext_authz": "v3", "encoding": "protojson"}
