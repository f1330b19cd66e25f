package ringward.authz_test

import data.ringward.authz

decide(labels, verified, age) := decision if {
	decision := authz.decision with input as {
		"client": {"verified": verified},
		"connection": {"auth_age_seconds": age},
		"route": {"labels": labels},
	}
}

test_public_routes_are_for_everybody if {
	decide({"access": "public"}, false, 0).rule == "public"
	decide({"access": "public"}, true, 0).rule == "public"
}

test_others_ask_for_a_certificate if {
	every access in ["client", "fresh"] {
		decision := decide({"access": access}, false, 0)
		decision.rule == "no-certificate"
		decision.http_status == 401
	}
	decide({"access": "client"}, true, 100000).rule == "client"
}

test_some_ask_for_a_fresh_proof if {
	decide({"access": "fresh"}, true, 300).rule == "fresh"
	decide({"access": "fresh"}, true, 301).rule == "stale"
}

test_a_route_without_label_is_closed if {
	not decide({}, true, 0).allowed
	not decide({"access": "Public"}, true, 0).allowed
	not decide({}, false, 0).allowed
}
