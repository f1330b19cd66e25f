# Tests of the benchmark's policy.
package ringward.authz_test

import data.ringward.authz

allowed(uri, path) if {
	decision := authz.decision with input as {"client": {"san": {"uri": [uri]}}, "request": {"path": path}}
	decision.allowed
}

a := "spiffe://bench/client-a"

b := "spiffe://bench/client-b"

test_client_a if {
	every path in ["/api/", "/api/x", "/big/1", "/upload", "/upload/x"] {
		allowed(a, path)
	}
	every path in ["/", "/api", "/public/x", "/bigger"] {
		not allowed(a, path)
	}
}

test_client_b if {
	allowed(b, "/public/x")
	not allowed(b, "/api/x")
	not allowed(b, "/public")
}

test_others if {
	not allowed("spiffe://bench/client-c", "/api/x")
	not allowed("", "/public/x")
}
