# Who may do what, by client certificate.
#
# Every request ends in `decision`: whether it is allowed, which rule said so, and why. Nothing is allowed unless a
# rule here says so.
package ringward.authz

# What Ringward asks for (`rule = "data.ringward.authz.decision"`).
default decision := {"allowed": false, "rule": "default", "reason": "no rule allows this request"}

decision := {"allowed": false, "rule": rule, "reason": denials[rule], "http_status": 403} if {
	rule := min(object.keys(denials))
} else := {"allowed": true, "rule": rule, "reason": grants[rule]} if {
	rule := min(object.keys(grants))
}

# The same as a boolean, for whoever asks only that.
default allow := false

allow if decision.allowed

# --- Denials: they win over every grant. Each has a name and a reason.

denials["quarantined"] := "this client certificate is quarantined" if {
	input.client.fingerprint_sha256 in data.authz.quarantined
}

denials["admin-from-outside"] := "the admin API is open to the internal network only" if {
	under("/admin")
	not internal_network
}

# --- Grants. Each has a name and a reason.

# By SPIFFE ID: a workload of our own trust domain.
grants["orders-service"] := "the orders service reads and writes orders" if {
	input.client.spiffe_id == "spiffe://example.com/ns/shop/sa/orders"
	under("/orders")
	input.request.method in {"GET", "POST", "PUT"}
}

# By trust domain and namespace: everything that runs in `monitoring` may look at health and metrics.
grants["monitoring"] := "monitoring reads health and metrics" if {
	input.client.trust_domain == "example.com"
	startswith(input.client.spiffe_id, "spiffe://example.com/ns/monitoring/")
	input.request.path in {"/health", "/metrics"}
	reads
}

# By DNS name in the certificate.
grants["gateway"] := "the partner gateway forwards to the inbox" if {
	"gateway.partner-c.example" in input.client.san.dns
	input.request.path == "/inbox"
	input.request.method == "POST"
}

# By common name and organization: two partners, each with one path.
grants["partner-a"] := "partner A reads its data" if {
	partner("Partner A")
	input.request.path == "/partner-api/data"
	reads
}

grants["partner-b"] := "partner B reads its reports" if {
	partner("Partner B")
	input.request.path == "/partner-api/reports"
	reads
}

# By organizational unit: people of operations may use the admin API (but see the denial above).
grants["operations"] := "operations uses the admin API" if {
	"Operations" in input.client.subject.organizational_units
	"Example" in input.client.subject.organizations
	under("/admin")
}

# By role: who has which role, and what a role may do, stands in data.json.
grants[concat("", ["role:", role])] := "a role of this client allows it" if {
	some role in roles
	some permission in data.authz.roles[role]
	input.request.method in permission.methods
	glob.match(permission.path, ["/"], input.request.path)
}

# --- Conditions that several rules share.

# Each claim has its own table, so that a name of one kind never counts as one of another.
roles contains role if some role in data.authz.members.spiffe_id[input.client.spiffe_id]

roles contains role if {
	some email in input.client.san.email
	some role in data.authz.members.email[email]
}

# A partner is known by common name and organization together. `common_name` is empty if a certificate has several.
partner(name) if {
	input.client.verified
	input.client.subject.common_name == name
	name in input.client.subject.organizations
}

# The path itself or anything below it: `/admin` and `/admin/users`, but not `/administrator`.
under(prefix) if input.request.path == prefix

under(prefix) if startswith(input.request.path, concat("", [prefix, "/"]))

reads if input.request.method in {"GET", "HEAD"}

internal_network if {
	some network in data.authz.internal_networks
	net.cidr_contains(network, input.connection.remote_addr)
}
