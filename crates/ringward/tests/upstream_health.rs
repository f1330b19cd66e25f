//! Health checks of upstreams: who takes requests, who does not, and what an operator sees of it.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use ringward_testkit::{Connection, DEADLINE, Gate, Script, Upstream, eventually, scrape};

use serde_json::Value;

use self::support::{Gateway, deserted, on_both_drivers};

on_both_drivers!(an_endpoint_that_goes_bad_is_left_out_and_comes_back,);

/// Quick, and otherwise as by default.
const HTTP: &str = "health_check = { http = \"/healthz\", interval = \"100ms\", timeout = \"20s\" }";
const HEALTHY: &str = "ringward_upstream_endpoint_healthy";
const CHECKS: &str = "ringward_upstream_health_checks_finished_total";
const PANIC: &str = "ringward_upstream_panic";

fn an_endpoint_that_goes_bad_is_left_out_and_comes_back(driver: &str) {
    let [good, bad] = upstreams();
    let gateway = Gateway::builder().io(driver).endpoints(&[good.address(), bad.address()], HTTP).start();
    let mut connection = gateway.connect();
    assert_eq!(served(&mut connection, &[&good, &bad]), [2, 2], "nobody has looked, or both are healthy");
    wait_for_state(&gateway, "healthy", 2.0);
    answer(&bad, 503);
    wait_for_health(&gateway, bad.address(), false);
    assert_eq!(served(&mut connection, &[&good, &bad]), [4, 0]);
    assert_eq!(gateway.metric(PANIC, &[("cluster", "others")]), 0.0, "a half is enough");
    assert!(gateway.metric(CHECKS, &[("outcome", "status")]) >= 3.0);
    answer(&bad, 200);
    wait_for_health(&gateway, bad.address(), true);
    assert_eq!(served(&mut connection, &[&good, &bad]), [2, 2]);

    // Each change is told once, the first with its reason.
    wait_for_message(&gateway, "upstream endpoint is healthy");
    let line = wait_for_message(&gateway, "upstream endpoint is unhealthy");
    assert_eq!((&line["cluster"], &line["reason"]), (&"others".into(), &"status 503".into()), "{line}");
    assert_eq!(line["endpoint"], bad.address().to_string(), "{line}");
}

#[test]
fn checks_are_requests_like_these() {
    let [upstream] = upstreams();
    let keys = "health_check = { http = \"/healthz?full=1\", host = \"orders.internal:81\", expect = \"404\", interval = \"1h\" }";
    answer(&upstream, 404);
    let gateway = Gateway::builder().workers(2).endpoints(&[upstream.address()], keys).start();
    wait_for_state(&gateway, "healthy", 1.0);
    let requests = upstream.requests();
    let [request] = requests.as_slice() else { panic!("once for all workers: {requests:?}") };
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/healthz?full=1"));
    assert_eq!(request.headers.get("host"), Some("orders.internal:81"));
    assert!(request.headers.get("user-agent").unwrap().starts_with("ringward/"), "{request:?}");
    assert_eq!(upstream.errors(), [] as [String; 0]);
}

#[test]
fn the_first_check_decides_alone() {
    let [good] = upstreams();
    let (_socket, nobody) = deserted();
    let keys = "health_check = { tcp = true, interval = \"1h\" }";
    let gateway = Gateway::builder().endpoints(&[nobody, good.address()], keys).start();
    wait_for_health(&gateway, nobody, false);
    wait_for_state(&gateway, "healthy", 1.0);
    let line = wait_for_message(&gateway, "upstream endpoint is unhealthy");
    assert!(line["reason"].as_str().unwrap().starts_with("cannot connect: "), "{line}");
    assert_eq!(gateway.metric(CHECKS, &[("outcome", "connect")]), 1.0);
    served(&mut gateway.connect(), &[&good]);
    assert_eq!(gateway.metric("ringward_upstream_errors_total", &[]), 0.0, "nobody has tried the other");
}

#[test]
fn too_few_healthy_endpoints_are_all_used() {
    let [good, bad, worse] = upstreams();
    answer(&bad, 500);
    let endpoints = [good.address(), bad.address(), worse.address()];
    let gateway = Gateway::builder().endpoints(&endpoints, HTTP).start();
    wait_for_health(&gateway, bad.address(), false);
    let mut connection = gateway.connect();
    wait_for_state(&gateway, "healthy", 2.0);
    assert_eq!(gateway.metric(PANIC, &[]), 0.0, "two of three");
    answer(&worse, 500);
    gateway.wait_for_metric(PANIC, &[("cluster", "others")], 1.0);
    assert_eq!(gateway.metric(HEALTHY, &[]), 1.0, "what is reported is what was found out");
    assert_eq!(spread(&mut connection, &[&good, &bad, &worse], 6), [2, 2, 2]);
    answer(&bad, 200);
    gateway.wait_for_metric(PANIC, &[], 0.0);
    assert_eq!(spread(&mut connection, &[&good, &bad, &worse], 6), [3, 3, 0]);
    for message in [
        "too few endpoints are healthy: all are used (`panic_threshold`)",
        "enough endpoints are healthy: only those are used",
    ] {
        wait_for_message(&gateway, message);
    }
}

#[test]
fn without_panic_a_cluster_without_a_healthy_endpoint_is_503() {
    let [one, other] = upstreams();
    for upstream in [&one, &other] {
        answer(upstream, 503);
    }
    let keys = format!("panic_threshold = 0\n{HTTP}");
    let gateway = Gateway::builder().endpoints(&[one.address(), other.address()], &keys).start();
    wait_for_state(&gateway, "unhealthy", 2.0);
    let mut connection = gateway.connect();
    let response = connection.get("/x").unwrap();
    assert_eq!(
        (response.status, response.text(), response.keeps_alive()),
        (503, "service unavailable\n", true)
    );
    let record = gateway.wait_for_record("flag", "no_healthy_upstream");
    assert_eq!((&record["status"], &record["cluster"]), (&503.into(), &"others".into()), "{record}");
    let labels = [("cluster", "others"), ("reason", "no_healthy_upstream")];
    gateway.wait_for_metric("ringward_upstream_errors_total", &labels, 1.0);
    assert_eq!(gateway.metric(PANIC, &[]), 0.0);
    assert!([&one, &other].iter().all(|upstream| requests(upstream) == 0));
    wait_for_message(&gateway, "no endpoint is healthy: requests are answered with 503");
    // One of two, below the threshold that another cluster may have.
    answer(&one, 204);
    wait_for_health(&gateway, one.address(), true);
    assert_eq!(served(&mut connection, &[&one, &other]), [4, 0]);
}

#[test]
fn a_reload_keeps_what_is_known() {
    let [good, bad] = upstreams();
    answer(&bad, 503);
    // Only the first check can find the second endpoint healthy soon.
    let keys = "health_check = { http = \"/healthz\", interval = \"100ms\", timeout = \"20s\", healthy_threshold = 100 }";
    let gateway = Gateway::builder().endpoints(&[good.address(), bad.address()], keys).start();
    wait_for_health(&gateway, bad.address(), false);
    wait_for_state(&gateway, "healthy", 1.0);
    answer(&bad, 200);
    let checked = gateway.metric(CHECKS, &[]);
    // What is asked stays, and something else changes.
    gateway.reconfigure("interval = \"100ms\"", "interval = \"101ms\"");
    let passed = |count: usize| requests_to(&bad, "/healthz") >= count;
    let before = requests_to(&bad, "/healthz");
    eventually(DEADLINE, "checks go on after the reload", || passed(before + 3));
    assert_eq!(gateway.metric(HEALTHY, &[("endpoint", &bad.address().to_string())]), 0.0);
    eventually(DEADLINE, "counts stay", || gateway.metric(CHECKS, &[]) > checked);
    assert_eq!(served(&mut gateway.connect(), &[&good, &bad]), [4, 0]);
    // Another question begins anew, and its first answer decides.
    gateway.reconfigure("http = \"/healthz\"", "http = \"/other\"");
    wait_for_health(&gateway, bad.address(), true);
    assert_eq!(served(&mut gateway.connect(), &[&good, &bad]), [2, 2]);
    // Without checks nothing is reported.
    gateway.reconfigure("http = \"/other\"", "http = \"/other\", expect = \"500\"");
    wait_for_state(&gateway, "unhealthy", 2.0);
    gateway.edit_config("health_check = ", "# ");
    eventually(DEADLINE, "the cluster leaves the report", || {
        !scrape(gateway.admin).iter().any(|(series, _)| series.starts_with(CHECKS))
    });
    assert_eq!(served(&mut gateway.connect(), &[&good, &bad]), [2, 2], "all are used");
}

#[test]
fn an_endpoint_that_joins_waits_for_its_first_check() {
    let [old, new] = upstreams();
    let gate = Gate::new();
    new.on("/healthz", Script::new().read_body().wait(&gate).respond(200, &[], ""));
    let gateway = Gateway::builder().endpoints(&[old.address()], HTTP).start();
    wait_for_state(&gateway, "healthy", 1.0);
    let alone = format!("endpoints = [\"{}\"]\nhealth_check", old.address());
    let both = format!("endpoints = [\"{}\", \"{}\"]\nhealth_check", old.address(), new.address());
    gateway.reconfigure(&alone, &both);
    eventually(DEADLINE, "the new endpoint is checked", || requests_to(&new, "/healthz") == 1);
    assert_eq!(served(&mut gateway.connect(), &[&old, &new]), [4, 0]);
    assert_eq!(gateway.metric("ringward_upstream_endpoints", &[("health", "unchecked")]), 1.0);
    gate.open();
    wait_for_state(&gateway, "healthy", 2.0);
    assert_eq!(served(&mut gateway.connect(), &[&old, &new]), [2, 2]);
}

#[test]
fn a_check_that_hangs_fails_in_time() {
    let [good, hung] = upstreams();
    hung.on("/healthz", Script::new().wait(&Gate::new()));
    let keys = "health_check = { http = \"/healthz\", interval = \"100ms\", timeout = \"1s\" }";
    let gateway = Gateway::builder().endpoints(&[good.address(), hung.address()], keys).start();
    wait_for_health(&gateway, hung.address(), false);
    let line = wait_for_message(&gateway, "upstream endpoint is unhealthy");
    assert_eq!(line["reason"], "no answer within 1s", "{line}");
    assert_eq!(served(&mut gateway.connect(), &[&good, &hung]), [4, 0]);
}

#[test]
fn a_service_of_grpc_says_whether_it_serves() {
    let service = HealthService::start();
    let keys = "protocol = \"http2\"\nhealth_check = { grpc = \"orders.v1.Orders\", interval = \"100ms\", \
                healthy_threshold = 1, unhealthy_threshold = 1 }";
    let gateway = Gateway::builder().endpoints(&[service.address], keys).start();
    wait_for_state(&gateway, "healthy", 1.0);
    for (answer, outcome, reason) in [
        (Answer::Serving(2), "not_serving", "NOT_SERVING"),
        (Answer::Serving(3), "not_serving", "SERVICE_UNKNOWN"),
        (Answer::Status("5"), "status", "grpc-status not_found"),
        (Answer::Status("12"), "status", "grpc-status unimplemented"),
    ] {
        let before = gateway.metric(CHECKS, &[("outcome", outcome)]);
        service.answer(answer);
        wait_for_health(&gateway, service.address, false);
        assert!(gateway.metric(CHECKS, &[("outcome", outcome)]) > before, "{reason}");
        eventually(DEADLINE, reason, || {
            let lines = gateway.messages("upstream endpoint is unhealthy");
            lines.iter().any(|line| line["reason"] == reason)
        });
        service.answer(Answer::Serving(1));
        wait_for_health(&gateway, service.address, true);
    }
}

/// What the health service answers.
#[derive(Clone, Copy)]
enum Answer {
    /// A ServingStatus.
    Serving(u8),
    /// A grpc-status without a message.
    Status(&'static str),
}

/// A server of gRPC with nothing but a health service. It ends with the test.
struct HealthService {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
}

impl HealthService {
    fn start() -> HealthService {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(Answer::Serving(1)));
        let current = answer.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, current.clone()));
                }
            });
        });
        HealthService { address, answer }
    }

    fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

async fn serve(stream: tokio::net::TcpStream, answer: Arc<Mutex<Answer>>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut responder))) = connection.accept().await {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let response = hyper::Response::builder().header("content-type", "application/grpc");
        let answer = *answer.lock().unwrap();
        match answer {
            Answer::Serving(status) => {
                let mut sink = responder.send_response(response.body(()).unwrap(), false).unwrap();
                sink.send_data(vec![0, 0, 0, 0, 2, 8, status].into(), false).unwrap();
                let mut trailers = hyper::HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                sink.send_trailers(trailers).unwrap();
            }
            Answer::Status(status) => {
                let response = response.header("grpc-status", status).body(()).unwrap();
                responder.send_response(response, true).unwrap();
            }
        }
    }
}

fn upstreams<const N: usize>() -> [Upstream; N] {
    std::array::from_fn(|_| Upstream::start())
}

/// Answers checks with this status from now on.
fn answer(upstream: &Upstream, status: u16) {
    upstream.on("/healthz", Script::new().read_body().respond(status, &[], ""));
}

fn wait_for_health(gateway: &Gateway, endpoint: SocketAddr, healthy: bool) {
    let series = format!("{HEALTHY}{{cluster=\"others\",endpoint=\"{endpoint}\"}}");
    eventually(DEADLINE, &format!("{series} becomes {healthy}"), || {
        scrape(gateway.admin).get(&series) == Some(f64::from(u8::from(healthy)))
    });
}

fn wait_for_state(gateway: &Gateway, health: &str, count: f64) {
    gateway.wait_for_metric("ringward_upstream_endpoints", &[("health", health)], count);
}

/// The line with this message, of which there is one.
#[track_caller]
fn wait_for_message(gateway: &Gateway, message: &str) -> Value {
    eventually(DEADLINE, message, || !gateway.messages(message).is_empty());
    let mut lines = gateway.messages(message);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

fn requests_to(upstream: &Upstream, path: &str) -> usize {
    upstream.requests().iter().filter(|request| request.target == path).count()
}

/// Requests that are no checks.
fn requests(upstream: &Upstream) -> usize {
    requests_to(upstream, "/x")
}

/// Sends four requests: how many of them each upstream got.
#[track_caller]
fn served(connection: &mut Connection, upstreams: &[&Upstream]) -> Vec<usize> {
    spread(connection, upstreams, 4)
}

#[track_caller]
fn spread(connection: &mut Connection, upstreams: &[&Upstream], count: usize) -> Vec<usize> {
    let before: Vec<usize> = upstreams.iter().map(|upstream| requests(upstream)).collect();
    for _ in 0..count {
        assert_eq!(connection.get("/x").unwrap().status, 200);
    }
    upstreams.iter().zip(before).map(|(upstream, before)| requests(upstream) - before).collect()
}
