//! What the policy says, and what becomes of the request: allowed, denied, undecided, failed, each told apart.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::time::Duration;

use ringward_testkit::{Echo, Leaf};

use self::support::{Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(every_outcome_has_its_status_flag_and_metric);

const DECISIONS: &str = "ringward_policy_decisions_total";

/// One path for each way in which an evaluation can end.
const OUTCOMES: &str = r#"package ringward.authz

path := input.request.path

decision := {"allowed": true, "rule": "readers"} if path == "/allowed"

decision if path == "/boolean"

decision := {"allowed": false, "rule": "strangers", "reason": "not on the list"} if path == "/denied"

decision := false if path == "/false"

decision := {
	"allowed": false,
	"http_status": 429,
	"body": "slow down",
	"headers": {"Retry-After": "3", "content-type": "text/x-policy", "x-many": ["1", "2"]},
} if path == "/custom"

decision := input.request.method if path == "/wrong-type"

decision := {"allowed": input.request.method} if path == "/wrong-member"

decision := {"allowed": true, "headers": {"x-a": "b\r\nx-injected: c"}} if path == "/injection"

decision := {"allowed": true, "headers": {"content-length": "0"}} if path == "/framing"

decision if {
	path == "/conflict"
	input.request.method == "GET"
}

decision := false if path == "/conflict"

decision := {"allowed": time.parse_rfc3339_ns(path) > 0} if path == "/builtin"

decision if {
	path == "/slow"
	some a in numbers.range(1, 5000)
	some b in numbers.range(1, 5000)
	a * b == 24990001
}
"#;

fn every_outcome_has_its_status_flag_and_metric(driver: &str) {
    let gateway = Gateway::builder()
        .io(driver)
        .policy("main", OUTCOMES)
        .host(Host::new(&[HOST]).policy("main"))
        .start();
    let mut connection = gateway.connect();
    let table = [
        ("/allowed", 200, "allowed", None),
        ("/boolean", 200, "allowed", None),
        ("/denied", 403, "denied", Some("policy_denied")),
        ("/false", 403, "denied", Some("policy_denied")),
        ("/custom", 429, "denied", Some("policy_denied")),
        ("/undefined", 403, "undefined", Some("policy_undefined")),
        ("/wrong-type", 500, "wrong_type", Some("policy_error")),
        ("/wrong-member", 500, "invalid_result", Some("policy_error")),
        ("/injection", 500, "invalid_result", Some("policy_error")),
        ("/framing", 500, "invalid_result", Some("policy_error")),
        ("/conflict", 500, "error", Some("policy_error")),
        ("/builtin", 500, "error", Some("policy_error")),
        ("/slow", 500, "limit", Some("policy_error")),
    ];
    for (path, status, outcome, flag) in table {
        let response = connection.get(path).unwrap();
        assert_eq!(response.status, status, "{path}");
        // An operator sees why, a client does not.
        if status == 500 {
            assert_eq!(response.text(), "internal server error\n", "{path}");
        }
        let record = gateway.wait_for_record("path", path);
        assert_eq!(record["decision"], outcome, "{record}");
        assert_eq!(record.get("flag").and_then(|flag| flag.as_str()), flag, "{record}");
    }
    assert!(connection.get("/allowed").unwrap().keeps_alive(), "the connection is none the worse");
    for (outcome, count) in [
        ("allowed", 3.0),
        ("denied", 3.0),
        ("undefined", 1.0),
        ("wrong_type", 1.0),
        ("invalid_result", 3.0),
        ("error", 2.0),
        ("limit", 1.0),
        ("panic", 0.0),
    ] {
        gateway.wait_for_metric(DECISIONS, &[("policy", "main"), ("outcome", outcome)], count);
    }
    for (flag, count) in [("policy_denied", 3.0), ("policy_undefined", 1.0), ("policy_error", 7.0)] {
        gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", flag)], count);
    }
    assert_eq!(gateway.upstream.requests().len(), 3, "only what is allowed goes upstream");
}

#[test]
fn the_record_names_rule_and_reason_and_the_client_is_not_told() {
    let gateway = Gateway::builder().policy("main", OUTCOMES).host(Host::new(&[HOST]).policy("main")).start();
    let mut connection = gateway.connect();
    let response = connection.get("/denied").unwrap();
    assert_eq!((response.status, response.text()), (403, "forbidden\n"));
    let record = gateway.wait_for_record("path", "/denied");
    assert_eq!((&record["rule"], &record["reason"]), (&"strangers".into(), &"not on the list".into()));
    assert_eq!(
        (&record["policy"], &record["route"], &record["status"]),
        (&"main".into(), &"all".into(), &403.into())
    );
    assert!(record.get("upstream.addr").is_none() && record["peer.id"] == "CN=partner-a", "{record}");
    connection.get("/allowed").unwrap();
    let record = gateway.wait_for_record("path", "/allowed");
    assert_eq!(record["rule"], "readers");
    assert_eq!(record["upstream.addr"], gateway.upstream.address().to_string());
    assert_eq!(record["attempts"], 1);
}

#[test]
fn a_denial_carries_the_status_body_and_fields_of_the_policy() {
    let gateway = Gateway::builder().policy("main", OUTCOMES).host(Host::new(&[HOST]).policy("main")).start();
    let mut connection = gateway.connect();
    let response = connection.get("/custom").unwrap();
    assert_eq!(
        (response.status, response.text(), response.headers.get("retry-after")),
        (429, "slow down", Some("3"))
    );
    assert_eq!(response.headers.get("content-type"), Some("text/x-policy"));
    assert_eq!(response.headers.all("x-many"), ["1", "2"]);
    let head = connection.head("HEAD", "/custom", &[]);
    connection.send(&head).unwrap();
    let response = connection.response_to_head().unwrap();
    assert_eq!((response.status, response.headers.get("content-length")), (429, Some("9")));
    assert!(connection.get("/allowed").is_ok());
}

#[test]
fn a_denied_upload_is_answered_without_waiting_for_its_body() {
    let gateway = Gateway::builder().policy("main", OUTCOMES).host(Host::new(&[HOST]).policy("main")).start();
    for framing in [("content-length", "1000000"), ("transfer-encoding", "chunked")] {
        let mut connection = gateway.connect();
        let head = connection.head("POST", "/denied", &[framing]);
        connection.send(&head).unwrap();
        let response = connection.response().unwrap();
        assert_eq!(
            (response.status, response.headers.get("connection")),
            (403, Some("close")),
            "{framing:?}"
        );
    }
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

#[test]
fn an_allow_can_change_fields_in_both_directions() {
    let policy = r#"package ringward.authz

decision := {
	"allowed": true,
	"headers": {"X-User": input.client.subject.common_name, "x-role": ["reader", "writer"]},
	"request_headers_to_remove": ["cookie", "X-Secret"],
	"response_headers_to_add": {"x-decided-by": "policy"},
}
"#;
    let gateway = Gateway::builder().policy("main", policy).host(Host::new(&[HOST]).policy("main")).start();
    let sent =
        [("x-user", "root"), ("X-USER", "admin"), ("cookie", "a=b"), ("x-secret", "1"), ("x-other", "kept")];
    let response = gateway.connect().request("GET", "/", &sent, b"").unwrap();
    assert_eq!(response.headers.get("x-decided-by"), Some("policy"));
    let headers = Echo::of(&response).headers;
    assert_eq!(headers.get("x-user"), Some("partner-a"), "the policy's value replaces the client's");
    assert_eq!(headers.all("x-role"), ["reader", "writer"]);
    assert!(!headers.contains("cookie") && !headers.contains("x-secret"));
    assert_eq!(headers.get("x-other"), Some("kept"));
}

#[test]
fn an_allow_can_change_the_query_and_note_what_it_likes() {
    let policy = r#"package ringward.authz

decision := {
	"allowed": input.request.path == "/allowed",
	"query_parameters_to_set": {"tenant": input.client.name, "a b": ["&", "="]},
	"query_parameters_to_remove": ["debug"],
	"dynamic_metadata": {"team": "payments", "query": input.request.query},
}
"#;
    let gateway = Gateway::builder().policy("main", policy).host(Host::new(&[HOST]).policy("main")).start();
    let mut connection = gateway.connect();
    let response = connection.get("/allowed?keep=%2F&ten%61nt=other&debug&a+b=1&debug=2&tenant").unwrap();
    assert_eq!(Echo::of(&response).target, "/allowed?keep=%2F&a%20b=%26&a%20b=%3D&tenant=CN%3Dpartner-a");
    let record = gateway.wait_for_record("path", "/allowed");
    assert_eq!(record["metadata"]["team"], "payments");
    assert_eq!(record["metadata"]["query"]["tenant"], serde_json::json!(["other", ""]));
    // Nothing goes upstream with a denied one, and its note is written, too.
    assert_eq!(connection.get("/denied?debug").unwrap().status, 403);
    assert_eq!(gateway.wait_for_record("path", "/denied")["metadata"]["team"], "payments");
}

#[test]
fn a_routes_policy_replaces_the_hosts() {
    let host = Host::new(&[HOST])
        .policy("strict")
        .route("path = \"/inherits\"", "")
        .route("path = \"/own\"", "policy = \"lax\"");
    let gateway = Gateway::builder()
        .policy("strict", "package ringward.authz\n\ndecision := false\n")
        .policy("lax", "package ringward.authz\n\ndecision := true\n")
        .host(host)
        .start();
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/inherits").unwrap().status, 403);
    assert_eq!(connection.get("/own").unwrap().status, 200);
    assert_eq!(connection.get("/neither").unwrap().status, 404);
    gateway.wait_for_metric(DECISIONS, &[("policy", "strict")], 1.0);
    gateway.wait_for_metric(DECISIONS, &[("policy", "lax")], 1.0);
}

#[test]
fn the_policy_sees_client_connection_request_and_route_as_they_are() {
    let policy = r#"package ringward.authz

facts := {
	"verified": input.client.verified == true,
	"common_name": input.client.subject.common_name == "partner-a",
	"organizations": input.client.subject.organizations == ["Partner A", "Holding"],
	"units": input.client.subject.organizational_units == ["Ops"],
	"spiffe": input.client.spiffe_id == "spiffe://example.org/partner/a",
	"trust_domain": input.client.trust_domain == "example.org",
	"dns": input.client.san.dns == ["a.partner.example"],
	"issuer": contains(input.client.issuer.dn, "Test Root"),
	"method": input.request.method == "GET",
	"path": input.request.path == "/tenants/t1/all%20orders",
	"segments": input.request.segments == ["tenants", "t1", "all orders"],
	"host": input.request.host == "api.example.com",
	"query": input.request.query.page == ["2"],
	"header": input.request.headers["x-tenant"] == "t1",
	"scheme": input.request.scheme == "https",
	"sni": input.connection.sni == "api.example.com",
	"tls": input.connection.tls_version == "TLSv1.3",
	"remote": input.connection.remote_addr == "127.0.0.1",
	"route": input.route.id == "orders",
	"params": input.route.params.tenant == "t1",
	"labels": input.route.labels.team == "billing",
}

wrong := [name | some name, fact in facts; fact != true]

decision := {"allowed": true, "response_headers_to_add": {"x-wrong": concat(",", sort(wrong)), "x-count": format_int(count(facts), 10)}}
"#;
    let host = Host::new(&[HOST])
        .policy("main")
        .route("path = \"/tenants/{tenant}/{list}\"", "id = \"orders\"\nlabels = { team = \"billing\" }");
    let gateway = Gateway::builder().policy("main", policy).host(host).start();
    let leaf = Leaf::client("partner-a")
        .organization("Partner A")
        .organization("Holding")
        .organizational_unit("Ops")
        .spiffe("spiffe://example.org/partner/a")
        .dns("a.partner.example");
    let identity = gateway.root.issue(&leaf);
    let mut connection = gateway.client().identity(&identity).connect(gateway.edge).unwrap();
    let response =
        connection.request("GET", "/tenants/t1/all%20orders?page=2", &[("X-Tenant", "t1")], b"").unwrap();
    assert_eq!(response.headers.get("x-wrong"), Some(""));
    assert_eq!(response.headers.get("x-count"), Some("21"), "no fact is undefined");
}

#[test]
fn a_slow_policy_does_not_hold_up_its_worker_for_longer_than_its_budget() {
    let gateway = Gateway::builder().policy("main", OUTCOMES).host(Host::new(&[HOST]).policy("main")).start();
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/slow").unwrap().status, 500);
    let record = gateway.wait_for_record("path", "/slow");
    let budget = Duration::from_secs(1).as_micros() as u64;
    let taken = record["policy_us"].as_u64().unwrap();
    assert!((budget..5 * budget).contains(&taken), "{record}");
    assert_eq!(connection.get("/allowed").unwrap().status, 200);
}

#[test]
fn no_spelling_of_a_denied_path_gets_around_the_policy() {
    let policy = "package ringward.authz\n\ndecision := input.request.path != \"/admin/users\"\n";
    let gateway = Gateway::builder().policy("main", policy).host(Host::new(&[HOST]).policy("main")).start();
    for target in [
        "/admin/users",
        "/admin/users?x=1",
        "/./admin/users",
        "/admin/./users",
        "/public/../admin/users",
        "/public/x/../../admin/users",
        "/public/%2e%2e/admin/users",
        "/public/.%2E/admin/users",
        "/%61dmin/%75sers",
        "/admin%2Fusers",
        "/admin%5Cusers",
        "/admin\\users",
        "//admin/users",
        "/admin//users",
        "/../admin/users",
        "/public/..;/admin/users",
        "/admin/users%00",
        "/admin/users#",
        "https://api.example.com/admin/users",
        "https://api.example.com/public/../admin/users",
    ] {
        let response = gateway.connect().get(target).unwrap();
        assert!(matches!(response.status, 400 | 403), "{target}: {}", response.status);
    }
    assert_eq!(gateway.upstream.connections_accepted(), 0);
    assert_eq!(gateway.connect().get("/admin/user").unwrap().status, 200);
}

#[test]
fn every_request_of_a_connection_is_decided() {
    let policy = "package ringward.authz\n\ndecision if input.request.headers[\"x-pass\"] == \"yes\"\n";
    let gateway = Gateway::builder().policy("main", policy).host(Host::new(&[HOST]).policy("main")).start();
    let mut connection = gateway.connect();
    for (value, status) in [("yes", 200), ("no", 403), ("yes", 200), ("yes ", 200), ("YES", 403)] {
        let response = connection.request("GET", "/", &[("x-pass", value)], b"").unwrap();
        assert_eq!(response.status, status, "{value}");
    }
    gateway.wait_for_metric(DECISIONS, &[], 5.0);
}

#[test]
fn a_denied_request_whose_body_has_arrived_leaves_the_connection_usable() {
    let policy =
        "package ringward.authz\ndefault decision := false\ndecision if input.request.method == \"GET\"\n";
    let gateway = Gateway::builder().policy("main", policy).host(Host::new(&[HOST]).policy("main")).start();
    let mut connection = gateway.connect();
    // The second request is right behind the body of the first, which must end where it says.
    connection
        .send(
            format!(
                "POST /denied HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 6\r\n\r\n{{\"a\":1GET /allowed HTTP/1.1\r\nhost: {HOST}\r\n\r\n"
            )
            .as_bytes(),
        )
        .unwrap();
    let denied = connection.response().unwrap();
    assert_eq!((denied.status, denied.keeps_alive()), (403, true));
    assert_eq!(connection.response().unwrap().status, 200);
    assert_eq!(gateway.upstream.requests().len(), 1);
}
