package envoy.authz_test

import data.envoy.authz

schedule := {
	"zone": "Europe/Berlin",
	"windows": [
		{"days": ["Monday", "Tuesday"], "from": [8, 0], "until": [18, 0]},
		{"days": ["Friday"], "from": [8, 0], "until": [14, 30]},
	],
	"closed": ["2026-12-25"],
}

# A time in UTC. Berlin is an hour ahead of it in winter, and two in summer.
request(method, moment) := {"attributes": {"request": {
	"http": {"method": method},
	"time": {"seconds": time.parse_rfc3339_ns(moment) / 1000000000},
}}}

decide(method, moment) := answer if {
	answer := authz.result with input as request(method, moment) with data.schedule as schedule
}

test_reading_is_always_allowed if decide("GET", "2026-12-25T03:00:00Z").allowed

test_changes_within_a_window[name] if {
	some name, moment in {
		"Monday morning": "2026-11-23T07:00:00Z",
		"Tuesday evening": "2026-11-24T16:59:59Z",
		"Friday in summer": "2026-07-03T12:29:59Z",
	}
	decide("POST", moment).allowed
}

test_changes_outside_of_all_windows[name] if {
	some name, moment in {
		"a second too early": "2026-11-23T06:59:59Z",
		"the end is outside": "2026-11-24T17:00:00Z",
		"Friday afternoon in summer": "2026-07-03T12:30:00Z",
		"Sunday": "2026-11-22T10:00:00Z",
	}
	answer := decide("POST", moment)
	not answer.allowed
	endswith(answer.body, "is outside of the windows for changes")
}

test_closed_days if {
	answer := decide("DELETE", "2026-12-25T10:00:00Z")
	not answer.allowed
	answer.reasons == ["closed on 2026-12-25"]
}

test_without_a_time_nothing_changes if {
	asked := {"attributes": {"request": {"http": {"method": "POST"}}}}
	not authz.allow with input as asked with data.schedule as schedule
}
