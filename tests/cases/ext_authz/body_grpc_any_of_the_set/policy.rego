package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {"extra": {"@type": "type.googleapis.com/test.library.BorrowRequest", "readerName": "bob"}}
	input.truncated_body == false
}
