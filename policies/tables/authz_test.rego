package ringward.authz_test

import data.ringward.authz

billing := "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"

migration := "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"

decide(fingerprint, method, path, now) := decision if {
	decision := authz.decision with input as {
		"client": {"fingerprint_sha256": fingerprint},
		"request": {"method": method, "path": path},
		"time": {"unix_s": now},
	}
}

test_what_the_table_allows if {
	decision := decide(billing, "GET", "/invoices/2024/7", 1800000000)
	decision == {"allowed": true, "rule": "table", "reason": "billing, ticket 4711"}
	decide(billing, "POST", "/invoices/7/payments", 1800000000).allowed
}

test_what_it_does_not if {
	decide(billing, "POST", "/invoices/7", 1800000000).rule == "default"
	decide(billing, "POST", "/invoices/7/8/payments", 1800000000).rule == "default"
	decide(billing, "GET", "/archive/1", 1800000000).rule == "default"
	decide("", "GET", "/invoices/1", 1800000000).rule == "default"
}

test_entries_end if {
	decide(migration, "GET", "/archive/1", 1699999999).allowed
	decide(migration, "GET", "/archive/1", 1700000000).rule == "expired"
}

# As many entries as there may be: the rule stays the same.
test_entries_of_others_do_not_matter if {
	entries := {sprintf("%d", [i]): {"note": "", "until_unix": 2, "allow": []} | some i in numbers.range(1, 500)}
	decide("7", "GET", "/", 1).rule == "default" with data.clients as entries
	decide("7", "GET", "/", 2).rule == "expired" with data.clients as entries
}
