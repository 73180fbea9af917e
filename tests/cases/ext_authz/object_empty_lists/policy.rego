package envoy.authz

allow := {
	"allowed": true,
	"headers": {},
	"response_headers_to_add": [],
	"request_headers_to_remove": [],
	"query_parameters_to_set": {},
	"query_parameters_to_remove": [],
	"dynamic_metadata": {},
}
