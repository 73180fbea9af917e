package envoy.authz

default allow := false

allow if input.attributes.metadataContext.typedFilterMetadata.f == {"typeUrl": "type.googleapis.com/google.protobuf.Duration", "value": "CAM="}
