# Selective mTLS: some routes are for everybody, some for clients with a certificate, some for clients that proved their
# key a moment ago. Which is which says the configuration, by a label of each route:
#
#   labels = { access = "public" }      with client_auth = { mode = "optional", ... } at the host or route
#   labels = { access = "client" }
#   labels = { access = "fresh" }       a resumed session is not enough once its proof is old
#
# A route without the label is denied, so that a forgotten label opens nothing.
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "public"} if {
	input.route.labels.access == "public"
} else := {"allowed": false, "rule": "no-certificate", "http_status": 401, "body": "a client certificate is required\n"} if {
	not input.client.verified
} else := {"allowed": true, "rule": "client"} if {
	input.route.labels.access == "client"
} else := {"allowed": true, "rule": "fresh"} if {
	input.route.labels.access == "fresh"
	input.connection.auth_age_seconds <= 300
} else := {"allowed": false, "rule": "stale", "http_status": 401, "body": "connect anew\n"} if {
	input.route.labels.access == "fresh"
}
