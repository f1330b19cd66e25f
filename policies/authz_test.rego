# Tests of authz.rego. A test passes if it is true.
package ringward.authz_test

import data.ringward.authz

# --- Building inputs

request(method, path) := {"method": method, "path": path}

# A client by what its certificate holds; everything else is empty, as in a real input.
client(claims) := object.union(
	{
		"verified": true,
		"spiffe_id": "",
		"trust_domain": "",
		"fingerprint_sha256": "",
		"subject": {"common_name": "", "organizations": [], "organizational_units": []},
		"san": {"dns": [], "uri": [], "email": [], "ip": []},
	},
	claims,
)

spiffe(id) := client({"spiffe_id": id, "trust_domain": split(id, "/")[2]})

subject(common_name, organization, unit) := client({
	"subject": {
		"common_name": common_name,
		"organizations": [organization],
		"organizational_units": [unit],
	},
})

anonymous := object.union(client({}), {"verified": false})

decide(who, method, path) := decide_from(who, method, path, "203.0.113.9")

decide_from(who, method, path, address) := decision if {
	decision := authz.decision with input as {
		"client": who,
		"request": request(method, path),
		"connection": {"remote_addr": address},
	}
}

allowed_by(who, method, path, rule) if {
	decision := decide(who, method, path)
	decision.allowed
	decision.rule == rule
}

denied(who, method, path) if not decide(who, method, path).allowed

# --- The default

test_nothing_is_allowed_without_a_rule if {
	decision := decide(anonymous, "GET", "/")
	decision == {"allowed": false, "rule": "default", "reason": "no rule allows this request"}
}

test_anonymous_is_denied_everywhere if {
	every path in ["/orders", "/health", "/partner-api/data", "/partner-api/reports", "/admin", "/builds/1"] {
		denied(anonymous, "GET", path)
	}
}

test_allow_is_the_decision if {
	orders := spiffe("spiffe://example.com/ns/shop/sa/orders")
	address := {"remote_addr": "203.0.113.9"}
	authz.allow with input as {"client": orders, "request": request("GET", "/orders"), "connection": address}
	not authz.allow with input as {"client": anonymous, "request": request("GET", "/orders"), "connection": address}
}

# --- Partners

partner_a := subject("Partner A", "Partner A", "API")

partner_b := subject("Partner B", "Partner B", "API")

test_partner_a_reads_its_data if allowed_by(partner_a, "GET", "/partner-api/data", "partner-a")

test_partner_b_reads_its_reports if allowed_by(partner_b, "GET", "/partner-api/reports", "partner-b")

test_partners_do_not_read_each_other if {
	denied(partner_a, "GET", "/partner-api/reports")
	denied(partner_b, "GET", "/partner-api/data")
}

test_partners_only_read if {
	every method in ["POST", "PUT", "DELETE", "PATCH"] {
		denied(partner_a, method, "/partner-api/data")
	}
	allowed_by(partner_a, "HEAD", "/partner-api/data", "partner-a")
}

test_partners_get_exactly_their_path if {
	every path in ["/partner-api/data/", "/partner-api/data/x", "/partner-api/database", "/partner-api", "/"] {
		denied(partner_a, "GET", path)
	}
}

test_a_common_name_alone_is_no_partner if {
	denied(subject("Partner A", "Someone Else", "API"), "GET", "/partner-api/data")
	denied(object.union(partner_a, {"verified": false}), "GET", "/partner-api/data")
}

# --- Workloads

orders := spiffe("spiffe://example.com/ns/shop/sa/orders")

test_orders_service if {
	allowed_by(orders, "PUT", "/orders/17", "orders-service")
	allowed_by(orders, "GET", "/orders", "orders-service")
	denied(orders, "DELETE", "/orders/17")
	denied(orders, "GET", "/ordersfile")
}

test_ids_are_compared_whole if {
	denied(spiffe("spiffe://example.com/ns/shop/sa/orders2"), "GET", "/orders")
	denied(spiffe("spiffe://evil.com/ns/shop/sa/orders"), "GET", "/orders")
}

test_monitoring_by_namespace if {
	prometheus := spiffe("spiffe://example.com/ns/monitoring/sa/prometheus")
	allowed_by(prometheus, "GET", "/metrics", "monitoring")
	denied(prometheus, "POST", "/metrics")
	denied(prometheus, "GET", "/orders")
	denied(spiffe("spiffe://other.com/ns/monitoring/sa/prometheus"), "GET", "/metrics")
	denied(spiffe("spiffe://example.com/ns/monitoringx/sa/x"), "GET", "/metrics")
}

test_gateway_by_dns_name if {
	gateway := client({"san": {"dns": ["other.example", "gateway.partner-c.example"], "email": []}})
	allowed_by(gateway, "POST", "/inbox", "gateway")
	denied(gateway, "GET", "/inbox")
	denied(client({"san": {"dns": ["x.gateway.partner-c.example"], "email": []}}), "POST", "/inbox")
}

# --- The admin API

operator := subject("carol", "Example", "Operations")

test_operations_from_inside if {
	decision := decide_from(operator, "POST", "/admin/users", "10.1.2.3")
	decision.allowed
	decision.rule == "operations"
}

test_operations_from_outside if {
	decision := decide_from(operator, "POST", "/admin/users", "203.0.113.9")
	decision == {
		"allowed": false,
		"rule": "admin-from-outside",
		"reason": "the admin API is open to the internal network only",
		"http_status": 403,
	}
}

test_other_units_from_inside if {
	not decide_from(subject("carol", "Example", "Sales"), "GET", "/admin", "10.1.2.3").allowed
	not decide_from(subject("carol", "Partner A", "Operations"), "GET", "/admin", "10.1.2.3").allowed
}

test_what_only_begins_like_admin if {
	decide_from(operator, "GET", "/administrator", "203.0.113.9").rule == "default"
}

# --- Roles

alice := client({"san": {"uri": [], "dns": [], "ip": [], "email": ["alice@example.com"]}})

test_roles_from_the_data_document if {
	allowed_by(alice, "POST", "/builds/7/steps", "role:developer")
	allowed_by(alice, "GET", "/logs/7", "role:developer")
	denied(alice, "GET", "/logs/7/raw")
	denied(alice, "PUT", "/artifacts/x/latest")
	denied(alice, "GET", "/reports/1")
}

test_names_of_another_kind_have_no_role if {
	name := "alice@example.com"
	denied(subject(name, "Example", "Engineering"), "GET", "/logs/7")
	denied(client({"spiffe_id": name}), "GET", "/logs/7")
	denied(client({"san": {"dns": [name], "uri": [name], "ip": [], "email": []}}), "GET", "/logs/7")
}

test_several_roles if {
	runner := spiffe("spiffe://example.com/ns/ci/sa/runner")
	allowed_by(runner, "PUT", "/artifacts/x/latest", "role:publisher")
	allowed_by(runner, "GET", "/builds/1", "role:developer")
	denied(runner, "PUT", "/artifacts/x/y/latest")
}

test_roles_can_be_changed_by_data_alone if {
	decision := decide(alice, "DELETE", "/x") with data.authz.members.email as {"alice@example.com": ["cleaner"]}
		with data.authz.roles as {"cleaner": [{"methods": ["DELETE"], "path": "/x"}]}
	decision.rule == "role:cleaner"
}

# --- Quarantine

test_quarantine_wins if {
	quarantined := object.union(orders, {"fingerprint_sha256": data.authz.quarantined[0]})
	decision := decide(quarantined, "GET", "/orders")
	not decision.allowed
	decision.rule == "quarantined"
}
