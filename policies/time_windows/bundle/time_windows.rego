package envoy.authz

import input.attributes.request.http as http_request

default allow := false

# Reading is always allowed; the windows are for what changes something.
allow if http_request.method in {"GET", "HEAD", "OPTIONS"}

allow if {
	some window in data.schedule.windows
	weekday in window.days
	minute_of_day >= (window.from[0] * 60) + window.from[1]
	minute_of_day < (window.until[0] * 60) + window.until[1]
	not date in data.schedule.closed
}

# The time is Envoy's, when the request arrived, so that a decision can be repeated later with the same answer.
now := [input.attributes.request.time.seconds * 1000000000, data.schedule.zone]

weekday := time.weekday(now)

minute_of_day := (hour * 60) + minute if [hour, minute, _] := time.clock(now)

date := time.format([now[0], now[1], "2006-01-02"])

result["allowed"] := allow

result["body"] := reason if not allow

result["reasons"] := [reason] if not allow

default reason := "the request is not allowed"

reason := sprintf("closed on %s", [date]) if date in data.schedule.closed

reason := sprintf("%s is outside of the windows for changes", [weekday]) if not date in data.schedule.closed
