# Who may do what in scenarios: everybody what is public, administration is for operations, the rest for each client that was verified.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "public"} if {
	input.route.labels.access == "public"
} else := {"allowed": false, "rule": "administration"} if {
	startswith(input.request.path, "/admin/")
	not administrator
} else := {"allowed": true, "rule": "client"} if {
	input.client.verified
}

administrator if input.client.subject.organizations == ["operations"]
