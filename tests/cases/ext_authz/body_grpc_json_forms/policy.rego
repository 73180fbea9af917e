package envoy.authz

allow := {"allowed": ok}

default ok := false

ok if {
	input.parsed_body == {
		"readerName": "ann",
		"cardNumber": "1152921504606846977",
		"kind": "KIND_MAP",
		"seal": "/wA=",
		"titles": ["x", "y"],
		"shelfCounts": {"k": -3},
		"due": "2026-01-02T03:04:05.500Z",
		"fee": 3,
		"express": false,
		"copies": 5,
		"notes": {"n": 1.5, "l": [null, true, 2]},
		"loan": "1.500s",
		"limit": "7",
		"mask": "fooBar.baz",
		"weight": 0.1,
		"branch": "north",
	}
	input.truncated_body == false
}
