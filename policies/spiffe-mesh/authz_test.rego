package ringward.authz_test

import data.ringward.authz

decide(domain, name, method, upstream) := decision if {
	decision := authz.decision with input as {
		"client": {"spiffe_id": sprintf("spiffe://%s/%s", [domain, name]), "trust_domain": domain},
		"request": {"method": method},
		"route": {"upstream": upstream},
	}
}

test_listed_callers if {
	decide("example.com", "ns/shop/sa/frontend", "POST", "orders").rule == "mesh:orders"
	decide("example.com", "ns/shop/sa/orders", "POST", "payments").rule == "mesh:payments"
	decide("example.com", "ns/monitoring/sa/prometheus", "GET", "orders").allowed
}

test_nobody_else if {
	not decide("example.com", "ns/shop/sa/frontend", "POST", "payments").allowed
	not decide("example.com", "ns/shop/sa/frontend", "DELETE", "orders").allowed
	not decide("example.com", "ns/shop/sa/frontend", "GET", "unknown").allowed
	not decide("example.com", "ns/shop/sa/frontend2", "GET", "orders").allowed
}

test_a_star_ends_at_a_slash if {
	not decide("example.com", "ns/monitoring", "GET", "orders").allowed
	not decide("example.com", "ns/monitoring-x/sa/y", "GET", "orders").allowed
	not decide("example.com", "ns/monitoring/sa/prometheus", "POST", "orders").allowed
}

test_other_trust_domains if {
	not decide("example.org", "ns/shop/sa/frontend", "GET", "orders").allowed
}

test_clients_without_a_spiffe_id if {
	not authz.decision.allowed with input as {
		"client": {"spiffe_id": "", "trust_domain": ""},
		"request": {"method": "GET"},
		"route": {"upstream": "orders"},
	}
}
