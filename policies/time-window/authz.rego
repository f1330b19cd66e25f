# Time windows: who may come when. The windows of each organization are in data.json, with their own time zone, so that
# daylight saving is nobody's problem.
#
# `input.time.unix_s` is the time of the decision. `time.now_ns()` would be the same, but what reads it can neither be tested
# at another time nor be remembered.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "in-hours"} if {
	some window in windows
	open(window)
} else := {"allowed": false, "rule": "out-of-hours", "reason": "this client may come at other times only"} if {
	count(windows) > 0
}

windows contains window if {
	some organization in input.client.subject.organizations
	some window in data.windows[organization]
}

# From the beginning of one hour to the beginning of another, on the given days.
open(window) if {
	now := [input.time.unix_s * 1000000000, window.zone]
	time.weekday(now) in window.days
	[hour, _, _] := time.clock(now)
	hour >= window.from
	hour < window.until
}
