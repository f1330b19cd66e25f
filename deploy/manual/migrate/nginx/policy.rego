# Who may do what: the maps and ifs of nginx.conf, by the routes of ringward.toml.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := allow("orders") if {
	input.route.id in {"orders", "orders-import", "orders-v2"}
	may_use_orders
}

decision := allow("every-partner") if input.route.id in {"quotes", "old", "orders-slash"}

decision := allow("everybody") if input.route.id in {"portal", "admin-slash", "health"}

decision := allow("operators") if {
	input.route.id == "admin"
	input.client.verified
	input.client.subject.common_name in {"ops-anna", "ops-ben"}
}

# map "$client_unit $request_method" $may_use_orders
may_use_orders if {
	"Billing" in input.client.subject.organizational_units
	input.request.method in {"GET", "HEAD"}
}

may_use_orders if "Integration" in input.client.subject.organizational_units

# X-Client-Verify, as $ssl_client_verify has it.
allow(rule) := {"allowed": true, "rule": rule, "headers": {"x-client-verify": verify}}

verify := "SUCCESS" if input.client.verified

verify := "NONE" if not input.client.verified
