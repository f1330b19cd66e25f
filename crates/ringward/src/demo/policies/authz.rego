package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "partner_a"} if {
	input.client.spiffe_id == "spiffe://example.org/partner/a"
	input.request.path == "/partner-api/data"
}
