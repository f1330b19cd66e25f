# Maintenance mode: a switch in data.json in front of the usual rules. While it is on, everybody is told to come back later,
# except operators, and except for the health check.
#
# Change `on` in data.json: within a second requests are decided by it. When the window in it ends, so does the maintenance.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {
	"allowed": false,
	"rule": "maintenance",
	"http_status": 503,
	"headers": {"retry-after": format_int(data.maintenance.until_unix - input.time.unix_s, 10)},
	"body": "down for maintenance\n",
} if {
	in_maintenance
	not exempt
} else := {"allowed": true, "rule": rule} if {
	rule := min(usual)
}

in_maintenance if {
	data.maintenance.on
	input.time.unix_s < data.maintenance.until_unix
}

exempt if "Operations" in input.client.subject.organizational_units

exempt if input.request.path == "/health"

# The usual rules, by name.
usual contains "health" if input.request.path == "/health"

usual contains "clients" if input.client.verified
