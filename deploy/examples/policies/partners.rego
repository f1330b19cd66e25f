# Which partner may do what: by the organization in its certificate, for which the CA vouches.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "partner-a-orders"} if {
	partner("Partner A")
	under("/orders")
	input.request.method in {"GET", "POST"}
}

decision := {"allowed": true, "rule": "partner-b-reports"} if {
	partner("Partner B")
	under("/reports")
	input.request.method == "GET"
}

# A certificate with several organizations does not say whose it is.
partner(name) if {
	input.client.verified
	input.client.subject.organizations == [name]
}

# The path itself or what is below it: `/orders` and `/orders/7`, but not `/orders-archive`.
under(prefix) if input.request.path == prefix

under(prefix) if startswith(input.request.path, concat("", [prefix, "/"]))
