# Who may do what on portal.example.com, and X-SSL-Client-Used as HAProxy has it.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := allow("everybody") if input.route.id in {"portal", "health"}

decision := allow("operators") if {
	input.route.id == "admin"
	input.client.verified
	input.client.subject.common_name in {"ops-anna", "ops-ben"}
}

allow(rule) := {"allowed": true, "rule": rule, "headers": {"x-ssl-client-used": used}}

used := "1" if input.client.verified

used := "0" if not input.client.verified
