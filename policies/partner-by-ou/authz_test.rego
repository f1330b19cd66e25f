package ringward.authz_test

import data.ringward.authz

decide(organizations, units, method, path) := decision if {
	decision := authz.decision with input as {
		"client": {
			"verified": true,
			"subject": {"organizations": organizations, "organizational_units": units},
		},
		"request": {"method": method, "path": path},
	}
}

test_reporting_reads_reports if {
	decide(["Partner A"], ["Reporting"], "GET", "/reports/2024").rule == "reporting"
	decide(["Partner A"], ["Other", "Reporting"], "HEAD", "/reports").rule == "reporting"
	decide(["Partner A"], ["Reporting"], "POST", "/reports").rule == "default"
	decide(["Partner A"], ["Reporting"], "GET", "/orders").rule == "default"
}

test_integration_places_orders if {
	decide(["Partner A"], ["Integration"], "POST", "/orders").rule == "integration"
	decide(["Partner A"], ["Integration"], "DELETE", "/orders/7").rule == "default"
	decide(["Partner A"], ["Integration"], "GET", "/orders-archive").rule == "default"
}

test_the_unit_of_another_organization_does_not_count if {
	not decide(["Partner B"], ["Reporting"], "GET", "/reports").allowed
	not decide(["Partner A", "Partner B"], ["Reporting"], "GET", "/reports").allowed
	not decide([], ["Reporting"], "GET", "/reports").allowed
}

test_nobody_without_a_certificate if {
	not authz.decision.allowed with input as {
		"client": {"verified": false, "subject": {"organizations": [], "organizational_units": []}},
		"request": {"method": "GET", "path": "/reports"},
	}
}
