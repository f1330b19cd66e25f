# Roles from data: who has which role, and what a role may do, is in data.json. This file changes when the idea of a role
# does, data.json when people do.
package ringward.authz

default decision := {"allowed": false, "rule": "default", "reason": "no role of this client allows it"}

decision := {"allowed": true, "rule": concat(",", allowing)} if count(allowing) > 0

# Roles of the client that allow this request.
allowing contains role if {
	some role in data.members[input.client.tenant][input.client.identity]
	some permission in data.roles[role]
	input.request.method in permission.methods
	input.route.id in permission.routes
}
