package ringward.authz_test

import data.ringward.authz

decide(tenant, identity, method, route) := decision if {
	decision := authz.decision with input as {
		"client": {"tenant": tenant, "identity": identity},
		"request": {"method": method},
		"route": {"id": route},
	}
}

test_each_role_allows_its_part if {
	decide("shop", "bob", "GET", "articles").rule == "viewer"
	decide("shop", "alice", "PUT", "drafts").rule == "editor"
	decide("shop", "alice", "GET", "log").rule == "auditor"
}

test_several_roles_that_allow_are_all_named if {
	decide("shop", "alice", "GET", "articles").rule == "auditor,editor"
}

test_no_role_no_access if {
	decide("shop", "bob", "PUT", "articles").rule == "default"
	decide("shop", "bob", "GET", "log").rule == "default"
	decide("shop", "mallory", "GET", "articles").rule == "default"
}

# Two tenants may use one name.
test_a_name_counts_in_its_tenant_only if {
	not decide("other", "alice", "GET", "articles").allowed
	not decide("", "alice", "GET", "articles").allowed
}

test_a_role_that_is_not_defined_allows_nothing if {
	not decide("shop", "carol", "GET", "articles").allowed with data.members as {"shop": {"carol": ["ghost"]}}
}
