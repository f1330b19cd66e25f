# Partners by organizational unit: what a partner's department may do.
#
# An organizational unit alone says little, since every organization names its own. It counts together with the
# organization, and only if the CA vouches for both.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "reporting"} if {
	member("Partner A", "Reporting")
	input.request.method in {"GET", "HEAD"}
	under("/reports")
}

decision := {"allowed": true, "rule": "integration"} if {
	member("Partner A", "Integration")
	input.request.method in {"GET", "HEAD", "POST"}
	under("/orders")
}

# A certificate with several organizations does not say which of them its units belong to.
member(organization, unit) if {
	input.client.verified
	input.client.subject.organizations == [organization]
	unit in input.client.subject.organizational_units
}

# The path itself or what is below it: `/orders` and `/orders/7`, but not `/orders-archive`.
under(prefix) if input.request.path == prefix

under(prefix) if startswith(input.request.path, concat("", [prefix, "/"]))
