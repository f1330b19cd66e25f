# A mesh of workloads: which SPIFFE ID may call which upstream, and how, stands in data.json.
#
# Names compare whole. A caller that ends in `/*` stands for every workload below it, as `ns/monitoring/*`.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": sprintf("mesh:%s", [input.route.upstream])} if {
	input.client.trust_domain == data.mesh.trust_domain
	some entry in data.mesh.allow[input.route.upstream]
	input.request.method in entry.methods
	is_caller(entry.from)
}

is_caller(name) if input.client.spiffe_id == id_of(name)

is_caller(name) if {
	endswith(name, "/*")
	startswith(input.client.spiffe_id, id_of(trim_suffix(name, "*")))
}

id_of(name) := sprintf("spiffe://%s/%s", [data.mesh.trust_domain, name])
