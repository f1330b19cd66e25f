//! Upstreams that listen on Unix sockets: they are served, checked and named like those at ports, and what is wrong with a socket is
//! said.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use ringward_testkit::{
    Authority, DEADLINE, Http2Script, Http2Upstream, Leaf, Process, Script, Upstream, eventually, scrape,
};
use socket2::{Domain, SockAddr, Socket, Type};

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers, program};

on_both_drivers!(
    a_socket_serves_like_a_port,
    http2_runs_over_a_socket,
    a_full_queue_is_waited_for,
    what_is_wrong_with_a_socket_is_said,
);

const ERRORS: &str = "ringward_upstream_errors_total";
const OPENED: &str = "ringward_upstream_connections_opened_total";
const HEALTHY: &str = "ringward_upstream_endpoint_healthy";

/// nginx on Unix sockets: a plain one, one that wants TLS both ways, and one that wants the PROXY protocol.
struct Nginx {
    _process: Process,
    plain: String,
    tls: String,
    announced: String,
}

impl Nginx {
    /// With files in `directory`, where the certificates are.
    fn start(directory: &Path) -> Nginx {
        let socket = |name: &str| directory.join(name).display().to_string();
        let [plain, tls, announced] = ["plain.sock", "tls.sock", "announced.sock"].map(socket);
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {kind}-temp;\n"))
            .concat();
        let text = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr warn;\nevents {{}}\nhttp {{\n\
             access_log off;\n{temporary}\n\
             server {{ listen unix:{plain}; location / {{ return 200 \"$host|$request_uri|$connection_requests\"; }} }}\n\
             server {{ listen unix:{tls} ssl; ssl_certificate server.pem; ssl_certificate_key server.key;\n\
             ssl_client_certificate up-ca.pem; ssl_verify_client on; ssl_protocols TLSv1.3;\n\
             location / {{ return 200 \"$ssl_client_s_dn|$ssl_server_name\"; }} }}\n\
             server {{ listen unix:{announced} proxy_protocol;\n\
             location / {{ return 200 \"$proxy_protocol_addr|$proxy_protocol_server_addr\"; }} }}\n}}\n"
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, text).unwrap();
        let mut nginx = program("nginx", "nginx");
        nginx.arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(file);
        let process = Process::start(&mut nginx);
        eventually(DEADLINE, "nginx listens", || UnixStream::connect(&announced).is_ok());
        Nginx { _process: process, plain, tls, announced }
    }
}

/// Passes all that comes to a new socket on to `target`: its address as the configuration has it.
fn bridge(directory: &Path, name: &str, target: SocketAddr) -> String {
    let path = directory.join(name);
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = TcpStream::connect(target).unwrap();
            let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            thread::spawn(move || pass_on(near, &far, || far.shutdown(Shutdown::Write)));
            thread::spawn(move || pass_on(far_too, &near_too, || near_too.shutdown(Shutdown::Write)));
        }
    });
    format!("unix:{}", path.display())
}

fn pass_on(mut from: impl Read, mut to: impl Write, end: impl FnOnce() -> std::io::Result<()>) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = end();
}

fn directory(builder: &Builder) -> PathBuf {
    builder.pki().path().to_owned()
}

fn a_socket_serves_like_a_port(driver: &str) {
    let builder = Gateway::builder().io(driver).limits("body_bytes_max = \"unlimited\"");
    let upstream = Upstream::start();
    let body = vec![b'x'; 3 << 20];
    upstream.on("/large", Script::new().read_body().respond_bytes(200, &[], &body));
    let endpoint = bridge(&directory(&builder), "app.sock", upstream.address());
    let gateway = builder.endpoints(&[&endpoint], "").start();
    let mut connection = gateway.connect();
    for _ in 0..3 {
        assert_eq!(connection.get("/small?x=1").unwrap().status, 200);
    }
    let response = connection.post("/large", &body).unwrap();
    assert!(response.status == 200 && response.body == body);
    let received = upstream.requests();
    assert_eq!(received[0].headers.get("host"), Some(HOST), "the client's, as with any other endpoint");
    gateway.wait_for_metric(OPENED, &[("cluster", "others")], 1.0);
    let record = gateway.wait_for_record("path", "/small");
    assert_eq!(record["upstream.addr"], endpoint, "{record}");
    // A connection that its upstream has closed is not used any more.
    upstream.close_connections();
    assert_eq!(connection.get("/small").unwrap().status, 200);
    assert_eq!(gateway.metric(ERRORS, &[]), 0.0);
}

fn http2_runs_over_a_socket(driver: &str) {
    let builder = Gateway::builder().io(driver);
    let upstream = Http2Upstream::start();
    upstream.on("/x", Http2Script::new().respond(200, &[], "by 2"));
    let endpoint = bridge(&directory(&builder), "h2.sock", upstream.address());
    let gateway = builder.endpoints(&[&endpoint], "protocol = \"http2\"").start();
    let mut connection = gateway.connect();
    for _ in 0..3 {
        assert_eq!(connection.get("/x").unwrap().text(), "by 2");
    }
    assert_eq!(upstream.connections_accepted(), 1);
}

#[test]
fn nginx_is_reached_plainly_by_tls_and_with_the_proxy_protocol() {
    let builder = Gateway::builder();
    let authority = Authority::root("Upstream Root");
    let directory = directory(&builder);
    builder.pki().write_authorities("up-ca.pem", &[&authority]);
    builder.pki().write_pem("server", &authority.issue(&Leaf::server("orders.internal")));
    builder.pki().write_pem("client", &authority.issue(&Leaf::client("ringward-client")));
    let nginx = Nginx::start(&directory);
    let Nginx { plain, tls, announced, .. } = &nginx;
    let client = "certificate = { chain = \"client.pem\", key = \"client.key\" }";
    let clusters = format!(
        "[cluster.plain]\nendpoints = \"unix:{plain}\"\n\
         [cluster.tls]\nendpoints = \"unix:{tls}\"\n\
         tls = {{ ca = \"up-ca.pem\", server_name = \"orders.internal\", {client} }}\n\
         [cluster.other]\nendpoints = \"unix:{tls}\"\n\
         tls = {{ ca = \"up-ca.pem\", server_name = \"invoices.internal\", {client} }}\n\
         [cluster.spiffe]\nendpoints = \"unix:{tls}\"\n\
         tls = {{ ca = \"up-ca.pem\", spiffe_ids = \"spiffe://prod/*\", {client} }}\n\
         [cluster.announced]\nendpoints = \"unix:{announced}\"\nproxy_protocol = \"v2\"\n"
    );
    let names = ["plain", "tls", "other", "spiffe", "announced"];
    let host = names.iter().fold(Host::new(&[HOST]), |host, name| {
        host.route(&format!("path = \"/{name}\""), &format!("cluster = \"{name}\""))
    });
    let gateway = builder.section(&clusters).host(host).start();
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/plain").unwrap().text(), format!("{HOST}|/plain|1"));
    assert_eq!(connection.get("/plain").unwrap().text(), format!("{HOST}|/plain|2"), "the same connection");
    assert_eq!(connection.get("/tls").unwrap().text(), "CN=ringward-client|orders.internal");
    assert_eq!(connection.get("/announced").unwrap().text(), "127.0.0.1|127.0.0.1");
    // Whoever answers at the socket has to be who is meant all the same.
    for name in ["other", "spiffe"] {
        assert_eq!(connection.get(&format!("/{name}")).unwrap().status, 502);
        gateway.wait_for_metric(ERRORS, &[("cluster", name), ("reason", "upstream_tls_name_mismatch")], 1.0);
    }
}

/// As long as `connect_timeout`, and no request is lost to it.
fn a_full_queue_is_waited_for(driver: &str) {
    let builder = Gateway::builder().io(driver);
    let path = directory(&builder).join("busy.sock");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let filled = fill(&path);
    let endpoints = [format!("unix:{}", path.display())];
    let gateway = builder.endpoints(&endpoints, "connect_timeout = \"50ms\"").start();
    assert_eq!(gateway.connect().get("/late").unwrap().status, 504);
    gateway.wait_for_metric(ERRORS, &[("reason", "upstream_connect_timeout")], 1.0);
    gateway.reconfigure("connect_timeout = \"50ms\"", "connect_timeout = \"60s\"");
    let mut connection = gateway.connect();
    connection.send(&connection.head("GET", "/patient", &[])).unwrap();
    let listener = UnixListener::from(std::os::fd::OwnedFd::from(socket));
    let mut head = String::new();
    while !head.contains("/patient") {
        let mut stream = listener.accept().unwrap().0;
        head = read_head(&mut stream);
        if head.contains("/patient") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").unwrap();
            assert_eq!(connection.response().unwrap().text(), "done");
        }
    }
    drop(filled);
}

/// Connects as often as the queue of the socket takes it; nothing is sent.
fn fill(path: &Path) -> Vec<Socket> {
    let mut waiting = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
        if socket.connect(&SockAddr::unix(path).unwrap()).is_err() {
            return waiting;
        }
        socket.shutdown(Shutdown::Write).unwrap();
        waiting.push(socket);
        assert!(waiting.len() < 100, "the queue does not fill up");
    }
}

/// Empty if the other side says nothing.
fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn what_is_wrong_with_a_socket_is_said(driver: &str) {
    let builder = Gateway::builder().io(driver);
    let directory = directory(&builder);
    let dead = directory.join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    fs::write(directory.join("file"), "").unwrap();
    let upstream = Upstream::start();
    let good = bridge(&directory, "good.sock", upstream.address());
    let at = |name: &str| format!("unix:{}", directory.join(name).display());
    let clusters = format!(
        "[cluster.missing]\nendpoints = {:?}\n[cluster.dead]\nendpoints = {:?}\n[cluster.file]\nendpoints = {:?}\n\
         [cluster.mixed]\nendpoints = [{:?}, {:?}]\n",
        at("missing.sock"),
        at("dead.sock"),
        at("file"),
        at("missing.sock"),
        good,
    );
    let host = ["missing", "dead", "file", "mixed"].iter().fold(Host::new(&[HOST]), |host, name| {
        host.route(&format!("path = \"/{name}\""), &format!("cluster = \"{name}\""))
    });
    let gateway = builder.section(&clusters).host(host).start();
    let mut connection = gateway.connect();
    for (cluster, flag, advice) in [
        ("missing", "upstream_socket_missing", "is the upstream running"),
        ("dead", "upstream_socket_dead", "nobody listens there"),
        ("file", "upstream_socket_dead", "nobody listens there"),
    ] {
        let path = format!("/{cluster}");
        let response = connection.get(&path).unwrap();
        assert_eq!(response.status, 502);
        assert!(!response.text().contains(".sock"), "clients do not learn of it: {}", response.text());
        gateway.wait_for_metric(ERRORS, &[("cluster", cluster), ("reason", flag)], 1.0);
        let record = gateway.wait_for_record("path", path);
        assert_eq!(record["flag"], flag);
        assert!(record["reason"].as_str().unwrap().contains(advice), "{record}");
    }
    // The next endpoint is tried, whatever is wrong with the first.
    for _ in 0..2 {
        assert_eq!(connection.get("/mixed").unwrap().status, 200);
    }
}

#[test]
fn sockets_are_checked_by_every_kind_of_check() {
    let builder = Gateway::builder();
    let directory = directory(&builder);
    let upstream = Upstream::start();
    upstream.on("/healthz", Script::new().read_body().respond(200, &[], ""));
    let path = directory.join("app.sock");
    let hidden = directory.join("away.sock");
    let endpoint = bridge(&directory, "app.sock", upstream.address());
    let clusters = ["http = \"/healthz\"", "tcp = true"].iter().zip(["by_http", "by_tcp"]);
    let clusters = clusters.map(|(check, name)| {
        format!(
            "[cluster.{name}]\nendpoints = {endpoint:?}\n\
             health_check = {{ {check}, interval = \"100ms\", timeout = \"20s\" }}\n"
        )
    });
    let host = Host::new(&[HOST])
        .route("path = \"/by_http\"", "cluster = \"by_http\"")
        .route("path = \"/by_tcp\"", "cluster = \"by_tcp\"");
    let gateway = builder.section(&clusters.collect::<String>()).host(host).start();
    let wait_for_health = |healthy: f64| {
        for cluster in ["by_http", "by_tcp"] {
            let series = format!("{HEALTHY}{{cluster=\"{cluster}\",endpoint=\"{endpoint}\"}}");
            eventually(DEADLINE, &series, || scrape(gateway.admin).get(&series) == Some(healthy));
        }
    };
    wait_for_health(1.0);
    // They count as healthy before anybody has looked.
    eventually(DEADLINE, "it is asked", || !upstream.requests().is_empty());
    let asked = upstream.requests();
    assert_eq!(asked[0].headers.get("host"), Some("localhost"), "a path is no host");
    fs::rename(&path, &hidden).unwrap();
    wait_for_health(0.0);
    let told = || gateway.messages("upstream endpoint is unhealthy");
    eventually(DEADLINE, "it is told", || !told().is_empty());
    let lines = told();
    let reason = lines[0]["reason"].as_str().unwrap();
    assert!(reason.contains("is the upstream running"), "{reason}");
    fs::rename(&hidden, &path).unwrap();
    wait_for_health(1.0);
    assert_eq!(gateway.connect().get("/by_http").unwrap().status, 200);
}

/// By whatever an endpoint is chosen, a socket is one.
#[test]
fn sockets_are_balanced_and_come_from_files() {
    let builder = Gateway::builder();
    let directory = directory(&builder);
    let upstreams = [Upstream::start(), Upstream::start()];
    let [one, other] = ["one.sock", "other.sock"];
    let one = bridge(&directory, one, upstreams[0].address());
    let other = bridge(&directory, other, upstreams[1].address());
    builder
        .pki()
        .write("list.toml", format!("endpoints = [{one:?}, {:?}]", upstreams[1].address().to_string()));
    let clusters = format!(
        "[cluster.hashed]\nendpoints = [{one:?}, {other:?}]\nbalance = {{ maglev = {{ header = \"x-user\" }} }}\n\
         [cluster.listed]\nendpoints_file = \"list.toml\"\n"
    );
    let host = Host::new(&[HOST])
        .route("path = \"/hashed\"", "cluster = \"hashed\"")
        .route("path = \"/listed\"", "cluster = \"listed\"");
    let gateway = builder.section(&clusters).host(host).start();
    let mut connection = gateway.connect();
    let served = || upstreams.each_ref().map(|upstream| upstream.requests().len());
    let mut users = [0; 2];
    for user in 0..32 {
        let before = served();
        for _ in 0..2 {
            let user = format!("user-{user}");
            assert_eq!(connection.request("GET", "/hashed", &[("x-user", &user)], &[]).unwrap().status, 200);
        }
        let after = served();
        let index = usize::from(after[1] > before[1]);
        assert_eq!(after[index], before[index] + 2, "both requests of a user come to one endpoint");
        users[index] += 1;
    }
    assert!(users[0] > 0 && users[1] > 0, "{users:?}");
    let before = served();
    for _ in 0..4 {
        assert_eq!(connection.get("/listed").unwrap().status, 200);
    }
    assert_eq!(served(), before.map(|count| count + 2));
    // A list that names a socket as it cannot be changes nothing.
    gateway.pki.write("list.toml", "endpoints = [\"unix:@abstract\"]");
    eventually(DEADLINE, "the list is refused", || {
        gateway.metric("ringward_upstream_discoveries_finished_total", &[("outcome", "refused")]) > 0.0
    });
    assert_eq!(connection.get("/listed").unwrap().status, 200);
}
