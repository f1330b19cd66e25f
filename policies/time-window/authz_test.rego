package ringward.authz_test

import data.ringward.authz

decide(organization, moment) := decision if {
	decision := authz.decision with input as {
		"client": {"subject": {"organizations": [organization]}},
		"time": {"unix_s": time.parse_rfc3339_ns(moment) / 1000000000},
	}
}

# 2024-07-01 is a Monday.
test_the_office_in_summer_and_in_winter if {
	decide("Office", "2024-07-01T05:00:00Z").rule == "in-hours"
	decide("Office", "2024-07-01T04:59:59Z").rule == "out-of-hours"
	decide("Office", "2024-12-02T05:00:00Z").rule == "out-of-hours"
	decide("Office", "2024-12-02T06:00:00Z").rule == "in-hours"
}

test_the_end_is_not_within if {
	decide("Office", "2024-07-01T16:59:59Z").rule == "in-hours"
	decide("Office", "2024-07-01T17:00:00Z").rule == "out-of-hours"
}

test_days if {
	decide("Office", "2024-06-30T10:00:00Z").rule == "out-of-hours"
	decide("Night Batch", "2024-06-30T10:00:00Z").rule == "in-hours"
	decide("Night Batch", "2024-07-01T04:00:00Z").rule == "in-hours"
	decide("Night Batch", "2024-07-01T05:00:00Z").rule == "out-of-hours"
}

test_without_a_window_there_is_no_time if {
	decide("Nobody", "2024-07-01T10:00:00Z").rule == "default"
}
