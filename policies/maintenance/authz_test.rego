package ringward.authz_test

import data.ringward.authz

decide(verified, units, path, now) := decision if {
	decision := authz.decision with input as {
		"client": {"verified": verified, "subject": {"organizational_units": units}},
		"request": {"path": path},
		"time": {"unix_s": now},
	}
}

on := {"on": true, "until_unix": 1000}

off := {"on": false, "until_unix": 1000}

test_the_usual_rules if {
	decide(true, [], "/orders", 1).rule == "clients" with data.maintenance as off
	decide(false, [], "/health", 1).rule == "health" with data.maintenance as off
	decide(false, [], "/orders", 1).rule == "default" with data.maintenance as off
}

test_clients_are_sent_away if {
	decision := decide(true, [], "/orders", 400) with data.maintenance as on
	decision.rule == "maintenance"
	decision.http_status == 503
	decision.headers == {"retry-after": "600"}
}

test_who_is_exempt if {
	decide(true, ["Operations"], "/orders", 1).rule == "clients" with data.maintenance as on
	decide(false, [], "/health", 1).rule == "health" with data.maintenance as on
}

test_it_ends_by_itself if {
	decide(true, [], "/orders", 999).rule == "maintenance" with data.maintenance as on
	decide(true, [], "/orders", 1000).rule == "clients" with data.maintenance as on
}
