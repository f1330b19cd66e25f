package ringward.authz_test

import data.ringward.authz

decide(organization, segments) := decision if {
	decision := authz.decision with input as {
		"client": {"verified": true, "subject": {"organizations": [organization]}},
		"request": {"segments": segments},
	}
}

test_each_partner_has_its_path if {
	decide("Acme Ltd", ["partners", "acme", "orders", "7"]).rule == "own-path"
	decide("Globex GmbH", ["partners", "globex"]).rule == "own-path"
}

test_no_partner_uses_the_path_of_another if {
	decision := decide("Acme Ltd", ["partners", "globex"])
	decision == {"allowed": false, "rule": "other-path", "reason": "acme may not use the path of globex"}
}

test_a_slash_that_was_encoded_separates_nothing if {
	not decide("Acme Ltd", ["partners", "acme/x"]).allowed
	not decide("Acme Ltd", ["partners/acme"]).allowed
}

test_everything_else_is_denied if {
	decide("Acme Ltd", ["partners"]).rule == "default"
	decide("Acme Ltd", []).rule == "default"
	decide("Initech", ["partners", "acme"]).rule == "default"
}

test_who_is_a_partner_is_data if {
	decision := decide("Initech", ["partners", "initech"]) with data.partners as {"Initech": "initech"}
	decision.allowed
}

test_two_organizations_are_nobody if {
	not authz.decision.allowed with input as {
		"client": {"verified": true, "subject": {"organizations": ["Acme Ltd", "Globex GmbH"]}},
		"request": {"segments": ["partners", "acme"]},
	}
}
