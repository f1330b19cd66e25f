//! The PROXY protocol to upstreams: what HAProxy, nginx and a raw receiver are told of a client, and that nobody else's request
//! follows it.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use ringward_testkit::{Client, DEADLINE, Leaf, Process, eventually, free_port};

use self::support::{Gateway, HOST, Host, on_both_drivers, program};

on_both_drivers!(each_request_has_a_connection_that_says_whose_it_is);

const OPENED: &str = "ringward_upstream_connections_opened_total";
const TOLD: &str = "proxy_protocol = \"v2\"";

/// A server that answers each request with what its connection began with, as [`described`]. It keeps its connections.
fn receiver() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || drop(answer_all(stream.unwrap())));
        }
    });
    address
}

fn answer_all(stream: TcpStream) -> std::io::Result<()> {
    let (mut reader, mut stream) = (BufReader::new(stream.try_clone()?), stream);
    let told = if reader.fill_buf()?.first() == Some(&b'\r') {
        let mut fixed = [0; 16];
        reader.read_exact(&mut fixed)?;
        let mut rest = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
        reader.read_exact(&mut rest)?;
        described(&fixed, &rest)
    } else {
        "nothing".to_owned()
    };
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{told}", told.len())?;
    }
}

/// Command and family, source and destination address, and the parts that are added, in their order.
fn described(fixed: &[u8; 16], rest: &[u8]) -> String {
    let mut told = format!("{:02x}{:02x} {:?} {:?}", fixed[12], fixed[13], &rest[..4], &rest[4..8]);
    for (kind, value) in parts(&rest[12..]) {
        match kind {
            0x20 => {
                told += &format!(" flags={} verify={}", value[0], value[4]);
                for (kind, value) in parts(&value[5..]) {
                    told += &format!(" {kind:02x}={}", String::from_utf8_lossy(value));
                }
            }
            _ => told += &format!(" {kind:02x}={}", String::from_utf8_lossy(value)),
        }
    }
    told
}

fn parts(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut parts = Vec::new();
    while let [kind, high, low, rest @ ..] = bytes {
        let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        parts.push((*kind, value));
        bytes = rest;
    }
    parts
}

/// What a receiver is told of a request of this client.
fn told_of(gateway: &Gateway, client: &Client, path: &str) -> String {
    let response = client.connect(gateway.edge).unwrap().get(path).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    response.text().to_owned()
}

/// Rule: a connection says one client's name, and carries this client's requests alone.
fn each_request_has_a_connection_that_says_whose_it_is(driver: &str) {
    let gateway = Gateway::builder().io(driver).endpoints(&[receiver()], TOLD).start();
    let other = gateway.root.issue(&Leaf::client("partner-b"));
    let other = gateway.anonymous().identity(&other);
    let of = |name: &str, alpn: &str| {
        format!("2111 [127, 0, 0, 1] [127, 0, 0, 1]{alpn} 02={HOST} flags=7 verify=0 21=TLSv1.3 22={name}")
    };
    let (mut first, mut second) = (gateway.connect(), other.connect(gateway.edge).unwrap());
    for _ in 0..2 {
        assert!(first.get("/").unwrap().text().ends_with("22=partner-a"));
        assert!(second.get("/").unwrap().text().ends_with("22=partner-b"));
    }
    let told = told_of(&gateway, &gateway.client(), "/");
    assert!([of("partner-a", ""), of("partner-a", " 01=http/1.1")].contains(&told), "{told}");
    gateway.wait_for_metric(OPENED, &[("cluster", "others")], 5.0);
}

/// Rule: requests that are announced take no connection from a cluster whose requests are not, and leave it none.
#[test]
fn connections_are_not_shared_with_a_cluster_that_says_nothing() {
    let address = receiver();
    let clusters = format!(
        "[cluster.plain]\nendpoints = \"{address}\"\n[cluster.told]\nendpoints = \"{address}\"\n{TOLD}"
    );
    let host = Host::new(&[HOST])
        .route("path = \"/plain\"", "cluster = \"plain\"")
        .route("path = \"/told\"", "cluster = \"told\"");
    let gateway = Gateway::builder().section(&clusters).host(host).start();
    let mut client = gateway.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/plain").unwrap().text(), "nothing");
        assert!(client.get("/told").unwrap().text().ends_with("22=partner-a"));
    }
    gateway.wait_for_metric(OPENED, &[("cluster", "plain")], 1.0);
    gateway.wait_for_metric(OPENED, &[("cluster", "told")], 2.0);
}

/// Rule: nothing is said of a certificate to a route that wants none, and nobody is called verified who has shown none.
#[test]
fn only_what_the_route_knows_is_told() {
    let host = Host::new(&[HOST])
        .client_auth("mode = \"optional\", trust = \"partners\"")
        .route("path = \"/known\"", "cluster = \"told\"")
        .route("path = \"/off\"", "cluster = \"told\"\nclient_auth = \"off\"");
    let cluster = format!("[cluster.told]\nendpoints = \"{}\"\n{TOLD}", receiver());
    let gateway = Gateway::builder().section(&cluster).host(host).start();
    assert!(
        told_of(&gateway, &gateway.client(), "/known").ends_with("flags=7 verify=0 21=TLSv1.3 22=partner-a")
    );
    for (client, path) in
        [(gateway.client(), "/off"), (gateway.anonymous(), "/off"), (gateway.anonymous(), "/known")]
    {
        let told = told_of(&gateway, &client, path);
        assert!(told.ends_with("flags=1 verify=1 21=TLSv1.3"), "{path}: {told}");
    }
    // On a connection that resumes a session the client has shown no certificate.
    let resuming = gateway.client().resuming();
    told_of(&gateway, &resuming, "/known");
    let mut connection = resuming.connect(gateway.edge).unwrap();
    let told = connection.get("/known").unwrap();
    assert!(connection.is_resumed() && told.text().contains("flags=5 verify=0"), "{}", told.text());
}

/// Starts what `command` makes of a port. Another may take the port before it does.
fn start(command: impl Fn(SocketAddr) -> Command) -> (Process, SocketAddr) {
    for _ in 0..5 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut process = Process::start(&mut command(address));
        eventually(DEADLINE, "the server listens or ends", || {
            !process.is_running() || TcpStream::connect(address).is_ok()
        });
        if process.is_running() {
            return (process, address);
        }
    }
    panic!("the server finds no port");
}

#[test]
fn haproxy_and_nginx_understand_it_ahead_of_tls_as_well() {
    let check = "health_check = { http = \"/\", interval = \"100ms\" }\npanic_threshold = 0";
    for (by_tls, by_nginx) in [(false, false), (true, false), (false, true), (true, true)] {
        let builder = Gateway::builder();
        let issued = builder.root().issue(&Leaf::server("orders.internal"));
        let files = builder.pki().write_pem("up", &issued);
        let both = [std::fs::read(files.chain).unwrap(), std::fs::read(files.key).unwrap()].concat();
        builder.pki().write("up-both.pem", both);
        let directory = builder.pki().path().to_owned();
        let (_server, address) = start(|address| {
            let (name, text) = if by_nginx { nginx(address, by_tls) } else { haproxy(address, by_tls) };
            let file = directory.join(format!("{name}-{}.conf", address.port()));
            std::fs::write(&file, text).unwrap();
            let mut server = program(name, name);
            match by_nginx {
                true => server.arg("-p").arg(&directory).arg("-e").arg("stderr").arg("-c").arg(file),
                false => server.current_dir(&directory).arg("-db").arg("-f").arg(file),
            };
            server
        });
        let tls = "tls = { ca = \"trust/partners.pem\", server_name = \"orders.internal\" }";
        let keys = format!("{TOLD}\n{check}\n{}", if by_tls { tls } else { "" });
        let gateway = builder.endpoints(&[address], &keys).start();
        gateway.wait_for_metric("ringward_upstream_endpoint_healthy", &[("cluster", "others")], 1.0);
        let response = gateway.connect().get("/").unwrap();
        let port = gateway.edge.port();
        let expected = match by_nginx {
            true => format!("127.0.0.1 {port}"),
            false => format!("127.0.0.1 {port} {HOST}"),
        };
        assert_eq!((response.status, response.text().trim()), (200, &*expected), "{by_tls} {by_nginx}");
    }
}

fn haproxy(address: SocketAddr, by_tls: bool) -> (&'static str, String) {
    let tls = if by_tls { "ssl crt up-both.pem" } else { "" };
    let text = format!(
        "defaults\nmode http\ntimeout connect 20s\ntimeout client 60s\ntimeout server 60s\nfrontend told\n\
         bind {address} accept-proxy {tls}\nhttp-request return status 200 content-type text/plain lf-string \
         \"%[src] %[dst_port] %[fc_pp_authority]\"\n"
    );
    ("haproxy", text)
}

fn nginx(address: SocketAddr, by_tls: bool) -> (&'static str, String) {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {kind}-temp;\n"))
        .concat();
    let tls = if by_tls {
        "ssl_certificate up.pem;\nssl_certificate_key up.key;\nssl_protocols TLSv1.3;\n"
    } else {
        ""
    };
    let text = format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr warn;\nevents {{}}\nhttp {{\naccess_log off;\n\
         {temporary}server {{\nlisten {address} {} proxy_protocol;\n{tls}location / {{\n\
         return 200 \"$proxy_protocol_addr $proxy_protocol_server_port\"; }}\n}}\n}}\n",
        if by_tls { "ssl" } else { "" }
    );
    ("nginx", text)
}
