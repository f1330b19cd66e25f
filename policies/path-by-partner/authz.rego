# A path for each partner: `/partners/acme/...` belongs to whoever is listed for `acme` in data.json, and to nobody else.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "own-path"} if {
	space == own_space
} else := {"allowed": false, "rule": "other-path", "reason": reason} if {
	reason := sprintf("%s may not use the path of %s", [own_space, space])
}

# The partner whose path is asked for. `segments` are decoded after the split, so that no encoding of a slash makes one
# partner's path look like another's.
space := input.request.segments[1] if {
	input.request.segments[0] == "partners"
}

# The partner that asks: undefined for everybody else.
own_space := data.partners[input.client.subject.organizations[0]] if {
	input.client.verified
	count(input.client.subject.organizations) == 1
}
