# Which workload may do what: by its SPIFFE ID, of which only the CAs of `trust.workloads` can speak.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "checkout-orders"} if {
	input.client.spiffe_id == "spiffe://prod.example.com/ns/shop/sa/checkout"
	under("/orders")
	input.request.method in {"GET", "POST"}
}

decision := {"allowed": true, "rule": "monitoring"} if {
	startswith(input.client.spiffe_id, "spiffe://prod.example.com/ns/monitoring/")
	input.request.path == "/health"
	input.request.method == "GET"
}

# The path itself or what is below it: `/orders` and `/orders/7`, but not `/orders-archive`.
under(prefix) if input.request.path == prefix

under(prefix) if startswith(input.request.path, concat("", [prefix, "/"]))
