# The policy of the side-by-side benchmark: two clients by URI SAN, prefixes of the path, all else denied.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "client-a"} if {
	"spiffe://bench/client-a" in input.client.san.uri
	strings.any_prefix_match(input.request.path, ["/api/", "/big/", "/upload"])
} else := {"allowed": true, "rule": "client-b"} if {
	"spiffe://bench/client-b" in input.client.san.uri
	startswith(input.request.path, "/public/")
}
