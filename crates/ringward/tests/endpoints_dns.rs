//! Endpoints from DNS: they follow its answers, and outlive the lack of them.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use ringward_testkit::{Connection, DEADLINE, Upstream, eventually};

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(endpoints_follow_the_answers,);

const NAME: &str = "orders.internal";
const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const ATTEMPTS: &str = "ringward_upstream_discoveries_finished_total";
const CHANGED: &str = "the endpoints of a cluster have changed";

fn endpoints_follow_the_answers(driver: &str) {
    let (upstreams, port) = on_one_port::<3>();
    let dns = DnsServer::start();
    dns.addresses(NAME, &[local(1)], 0);
    let gateway = builder(&dns, port, "").io(driver).start();
    let generation = gateway.generation();
    let mut connection = gateway.connect();
    assert_eq!(spread(&mut connection, &upstreams, 4), [4, 0, 0], "it has waited for the first answer");
    dns.addresses(NAME, &[local(2), local(1)], 0);
    wait_for_message(&gateway, CHANGED, 1);
    assert_eq!(spread(&mut connection, &upstreams, 4), [2, 2, 0]);
    // In another order they are the same.
    dns.addresses(NAME, &[local(1), local(2)], 0);
    dns.wait_for_rounds(3);
    dns.addresses(NAME, &[local(3), local(2), local(3)], 0);
    wait_for_message(&gateway, CHANGED, 2);
    assert_eq!(spread(&mut connection, &upstreams, 4), [0, 2, 2]);
    eventually(DEADLINE, "what nobody uses is closed", || upstreams[0].connections_open() == 0);
    assert_eq!((gateway.generation(), gateway.messages(CHANGED).len()), (generation, 2));
}

#[test]
fn what_is_no_good_answer_takes_nothing_away() {
    let (upstreams, port) = on_one_port::<2>();
    let dns = DnsServer::start();
    dns.addresses(NAME, &[local(1)], 0);
    let gateway = builder(&dns, port, "ttl_max = \"1s\"").start();
    let mut connection = gateway.connect();
    let table = [
        (Answer::Code(NXDOMAIN), "negative", "no such name"),
        (Answer::Records(Vec::new()), "negative", "no records"),
        (Answer::Records(vec![(0, vec![0; 4])]), "negative", "none of its addresses is that of a server"),
        (Answer::Code(SERVFAIL), "unreachable", "Server Failure"),
        (Answer::Garbage, "unreachable", "timed out"),
    ];
    for (answer, outcome, reason) in table {
        let before = gateway.metric(ATTEMPTS, &[("outcome", outcome)]);
        dns.answer(NAME, A, answer);
        eventually(DEADLINE, reason, || {
            let lines = gateway.messages("no endpoints can be read, the last good ones stay");
            let said = lines.last().and_then(|line| line["reason"].as_str()).unwrap_or_default();
            said.contains(reason) && said.contains(NAME)
        });
        assert!(gateway.metric(ATTEMPTS, &[("outcome", outcome)]) > before, "{reason}");
        assert_eq!(spread(&mut connection, &upstreams, 2), [2, 0], "{reason}");
    }
    assert!(gateway.metric("ringward_upstream_discovery_age_seconds", &[]) > 0.0);
    dns.addresses(NAME, &[local(2)], 0);
    wait_for_message(&gateway, "endpoints can be read again", 1);
    wait_for_message(&gateway, CHANGED, 1);
    assert_eq!(spread(&mut connection, &upstreams, 2), [0, 2]);
}

#[test]
fn serving_begins_without_an_answer() {
    let (upstreams, port) = on_one_port::<1>();
    let dns = DnsServer::start();
    dns.answer(NAME, A, Answer::Code(SERVFAIL));
    let gateway = builder(&dns, port, "").start();
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/x").unwrap().status, 503);
    gateway.wait_for_record("flag", "no_endpoints");
    let lines = wait_for_message(&gateway, "no endpoints yet: requests are answered with 503", 1);
    assert_eq!(lines[0]["cluster"], "others", "{lines:?}");
    dns.addresses(NAME, &[local(1)], 0);
    wait_for_message(&gateway, CHANGED, 1);
    assert_eq!(spread(&mut connection, &upstreams, 2), [2]);
    // A name that a reload brings is asked for before the reload is in force.
    dns.addresses("billing.internal", &[local(1)], 0);
    gateway.reconfigure(NAME, "billing.internal");
    assert_eq!(spread(&mut connection, &upstreams, 2), [2]);
}

#[test]
fn a_reload_keeps_what_was_found() {
    let (upstreams, port) = on_one_port::<1>();
    let dns = DnsServer::start();
    dns.addresses(NAME, &[local(1)], 0);
    let gateway = builder(&dns, port, "ttl_max = \"1s\"").start();
    dns.answer(NAME, A, Answer::Code(SERVFAIL));
    gateway.wait_for_message_of_trouble();
    for (from, to) in [("ttl_max = \"1s\"", "ttl_max = \"2s\""), ("pool_idle_max = 7", "pool_idle_max = 8")] {
        gateway.reconfigure(from, to);
        assert_eq!(spread(&mut gateway.connect(), &upstreams, 2), [2], "{to}");
    }
}

#[test]
fn the_time_to_live_is_obeyed_between_its_bounds() {
    let (_upstreams, port) = on_one_port::<1>();
    let dns = DnsServer::start();
    dns.addresses(NAME, &[local(1)], 0);
    dns.addresses("long.internal", &[local(1)], 3600);
    let another = format!(
        "[cluster.long]\nendpoints_dns = {{ name = \"long.internal\", port = {port}, ttl_min = \"100ms\" }}"
    );
    let host = Host::new(&["long.test"]).route("path = \"/\"", "cluster = \"long\"");
    let gateway = builder(&dns, port, "").section(&another).host(host).start();
    dns.wait_for_rounds(10);
    assert_eq!(dns.asked("long.internal", A), 1, "its answer holds");
    assert_eq!(
        gateway.metric(ATTEMPTS, &[("cluster", "long")]),
        0.0,
        "but for the first one nobody was asked"
    );
}

#[test]
fn endpoints_that_are_not_confirmed_for_too_long_are_not_used() {
    let (upstreams, port) = on_one_port::<1>();
    let dns = DnsServer::start();
    dns.addresses(NAME, &[local(1)], 0);
    let gateway = builder(&dns, port, "stale_max = \"1s\", ttl_max = \"1s\"").start();
    let mut connection = gateway.connect();
    assert_eq!(spread(&mut connection, &upstreams, 2), [2]);
    dns.answer(NAME, A, Answer::Code(NXDOMAIN));
    wait_for_message(&gateway, "endpoints were not confirmed for too long: none is used", 1);
    wait_for_message(&gateway, "no endpoints are left: requests are answered with 503", 1);
    assert_eq!(connection.get("/x").unwrap().status, 503);
    dns.addresses(NAME, &[local(1)], 0);
    wait_for_message(&gateway, CHANGED, 1);
    assert_eq!(spread(&mut connection, &upstreams, 2), [2]);
}

#[test]
fn a_family_that_is_not_answered_for_keeps_its_addresses() {
    let (_upstreams, port) = on_one_port::<1>();
    let dns = DnsServer::start();
    dns.addresses(NAME, &[local(1), "2001:db8::7".parse().unwrap()], 0);
    let gateway = builder(&dns, port, "").start();
    let share = |addr: &str| {
        let labels = [("endpoint", &*format!("{addr}:{port}"))];
        gateway.metric("ringward_upstream_endpoint_share", &labels)
    };
    assert_eq!((share("127.0.0.1"), share("[2001:db8::7]")), (0.5, 0.5));
    dns.answer(NAME, AAAA, Answer::Code(SERVFAIL));
    dns.answer(NAME, A, Answer::Records(vec![(0, vec![127, 0, 0, 2]), (0, vec![127, 0, 0, 3])]));
    let third = 1.0 / 3.0;
    eventually(DEADLINE, "the new ones are there, and the old one still", || {
        share("127.0.0.2") == third && share("127.0.0.3") == third && share("[2001:db8::7]") == third
    });
    // That there is none is an answer.
    dns.answer(NAME, AAAA, Answer::Records(Vec::new()));
    eventually(DEADLINE, "the old one is gone", || share("127.0.0.2") == 0.5 && share("127.0.0.3") == 0.5);
}

/// Else one name server that fails for a family would have addresses stay that nobody has confirmed for days.
#[test]
fn addresses_of_a_family_that_is_not_answered_for_expire() {
    let (_upstreams, port) = on_one_port::<1>();
    let dns = DnsServer::start();
    dns.addresses(NAME, &[local(1), "2001:db8::7".parse().unwrap()], 0);
    let gateway = builder(&dns, port, "stale_max = \"1s\", ttl_max = \"1s\"").start();
    dns.answer(NAME, AAAA, Answer::Code(SERVFAIL));
    let labels = [("endpoint", &*format!("127.0.0.1:{port}"))];
    gateway.wait_for_metric("ringward_upstream_endpoint_share", &labels, 1.0);
    gateway.wait_for_metric("ringward_upstream_endpoints", &[("cluster", "others")], 1.0);
}

#[test]
fn servers_of_a_service_of_a_family_that_is_not_answered_for_stay() {
    let (_upstreams, port) = on_one_port::<1>();
    let dns = DnsServer::start();
    dns.addresses("a.internal", &[local(1), "2001:db8::7".parse().unwrap()], 0);
    dns.services("_http._tcp.orders.internal", "a.internal", &[(0, 1, port)]);
    let gateway = server(&dns).section(&cluster("srv = \"_http._tcp.orders.internal\"")).start();
    dns.answer("a.internal", AAAA, Answer::Code(SERVFAIL));
    dns.answer("a.internal", A, Answer::Records(vec![(0, vec![127, 0, 0, 2]), (0, vec![127, 0, 0, 3])]));
    wait_for_message(&gateway, CHANGED, 1);
    gateway.wait_for_metric("ringward_upstream_endpoints", &[("cluster", "others")], 3.0);
    dns.answer("a.internal", AAAA, Answer::Records(Vec::new()));
    gateway.wait_for_metric("ringward_upstream_endpoints", &[("cluster", "others")], 2.0);
}

#[test]
fn a_service_has_ports_weights_and_priorities() {
    let upstreams = start::<3>();
    let dns = DnsServer::start();
    dns.addresses("a.internal", &[local(1)], 0);
    let [one, two, other] = upstreams.each_ref().map(|upstream| upstream.address().port());
    let services = [(10, 40_000, one), (10, 20_000, two), (20, 65_535, other)];
    dns.services("_http._tcp.orders.internal", "a.internal", &services);
    // So many that they come by TCP.
    dns.truncate();
    let gateway = server(&dns).section(&cluster("srv = \"_http._tcp.orders.internal\"")).start();
    let mut connection = gateway.connect();
    assert_eq!(spread(&mut connection, &upstreams, 12), [8, 4, 0]);
    assert!(dns.asked_by_tcp() > 0);
    dns.services("_http._tcp.orders.internal", "a.internal", &[(20, 0, other)]);
    wait_for_message(&gateway, CHANGED, 1);
    assert_eq!(spread(&mut connection, &upstreams, 4), [0, 0, 4]);
    // A target that is the root: the service is not there.
    dns.services("_http._tcp.orders.internal", "", &[(0, 0, 80)]);
    gateway.wait_for_message_of_trouble();
    assert_eq!(spread(&mut connection, &upstreams, 4), [0, 0, 4]);
}

#[test]
fn each_address_is_checked() {
    let (upstreams, port) = on_one_port::<2>();
    let dns = DnsServer::start();
    dns.addresses(NAME, &[local(1)], 0);
    let keys = "health_check = { http = \"/healthz\", interval = \"100ms\", timeout = \"20s\" }";
    let gateway = server(&dns).section(&(cluster(&name(port, "")) + keys)).start();
    let healthy = |count: f64| {
        gateway.wait_for_metric("ringward_upstream_endpoints", &[("health", "healthy")], count);
    };
    healthy(1.0);
    dns.addresses(NAME, &[local(1), local(2)], 0);
    healthy(2.0);
    assert_eq!(spread(&mut gateway.connect(), &upstreams, 4), [2, 2]);
}

impl Gateway {
    /// Waits until it was said that the last good endpoints stay.
    #[track_caller]
    fn wait_for_message_of_trouble(&self) {
        wait_for_message(self, "no endpoints can be read, the last good ones stay", 1);
    }
}

/// Before the addresses of [`NAME`].
fn builder(dns: &DnsServer, port: u16, keys: &str) -> Builder {
    server(dns).section(&cluster(&name(port, keys)))
}

fn server(dns: &DnsServer) -> Builder {
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", "cluster = \"others\"");
    Gateway::builder().server(&format!("dns_servers = \"{}\"", dns.address)).host(host)
}

fn name(port: u16, keys: &str) -> String {
    let comma = if keys.is_empty() { "" } else { ", " };
    format!("name = \"{NAME}\", port = {port}{comma}{keys}")
}

fn cluster(dns: &str) -> String {
    format!("[cluster.others]\nendpoints_dns = {{ {dns}, ttl_min = \"100ms\" }}\npool_idle_max = 7\n")
}

fn local(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// Upstreams at 127.0.0.1, 127.0.0.2 and so on, all on the same port.
fn on_one_port<const N: usize>() -> ([Upstream; N], u16) {
    let first = Upstream::start();
    let port = first.address().port();
    let mut first = Some(first);
    let upstream = |index: usize| {
        first.take().unwrap_or_else(|| Upstream::start_at(SocketAddr::new(local(index as u8 + 1), port)))
    };
    (std::array::from_fn(upstream), port)
}

fn start<const N: usize>() -> [Upstream; N] {
    std::array::from_fn(|_| Upstream::start())
}

/// Waits until the message was said so often: the lines.
#[track_caller]
fn wait_for_message(gateway: &Gateway, message: &str, count: usize) -> Vec<serde_json::Value> {
    eventually(DEADLINE, message, || gateway.messages(message).len() >= count);
    gateway.messages(message)
}

/// Sends requests: how many of them each upstream got.
#[track_caller]
fn spread(connection: &mut Connection, upstreams: &[Upstream], count: usize) -> Vec<usize> {
    let served = || -> Vec<usize> {
        let of =
            |upstream: &Upstream| upstream.requests().iter().filter(|request| request.target == "/x").count();
        upstreams.iter().map(of).collect()
    };
    let before = served();
    for _ in 0..count {
        assert_eq!(connection.get("/x").unwrap().status, 200);
    }
    served().iter().zip(before).map(|(now, then)| now - then).collect()
}

/// What is answered to a question.
#[derive(Clone)]
enum Answer {
    /// Records of the type that was asked for, each with its TTL and data.
    Records(Vec<(u32, Vec<u8>)>),
    /// A response code.
    Code(u8),
    /// No message of DNS.
    Garbage,
}

/// A server of DNS by UDP and TCP. What it was told nothing about does not exist. It ends with the test.
struct DnsServer {
    address: SocketAddr,
    state: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    answers: HashMap<(String, u16), Answer>,
    asked: HashMap<(String, u16), usize>,
    asked_by_tcp: usize,
    truncates: bool,
}

impl DnsServer {
    fn start() -> DnsServer {
        // The same port has to be free for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let (address, state) = (udp.local_addr().unwrap(), Arc::<Mutex<Zone>>::default());
        let (by_udp, by_tcp) = (state.clone(), state.clone());
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut question) {
                let answer = by_udp.lock().unwrap().answer(&question[..length], false);
                let _ = udp.send_to(&answer, from);
            }
        });
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let Ok(mut stream) = stream else { return };
                let state = by_tcp.clone();
                thread::spawn(move || {
                    let mut length = [0; 2];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut question = vec![0; u16::from_be_bytes(length).into()];
                        stream.read_exact(&mut question).unwrap();
                        let answer = state.lock().unwrap().answer(&question, true);
                        let length = (answer.len() as u16).to_be_bytes();
                        let _ = stream.write_all(&[&length[..], &answer].concat());
                    }
                });
            }
        });
        DnsServer { address, state }
    }

    /// A name has these addresses, and no others.
    fn addresses(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(v4) => ipv4.push((ttl, v4.octets().to_vec())),
                IpAddr::V6(v6) => ipv6.push((ttl, v6.octets().to_vec())),
            }
        }
        let mut zone = self.state.lock().unwrap();
        zone.answers.insert((name.to_owned(), A), Answer::Records(ipv4));
        zone.answers.insert((name.to_owned(), AAAA), Answer::Records(ipv6));
    }

    /// A service is at these ports of `target`, with priorities and weights.
    fn services(&self, name: &str, target: &str, services: &[(u16, u16, u16)]) {
        let target: Vec<u8> = target
            .split('.')
            .filter(|label| !label.is_empty())
            .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
            .chain([0])
            .collect();
        let data = |(priority, weight, port): &(u16, u16, u16)| {
            let numbers = [priority, weight, port].map(|number| number.to_be_bytes()).concat();
            (0, [numbers, target.clone()].concat())
        };
        self.answer(name, SRV, Answer::Records(services.iter().map(data).collect()));
    }

    fn answer(&self, name: &str, kind: u16, answer: Answer) {
        self.state.lock().unwrap().answers.insert((name.to_owned(), kind), answer);
    }

    /// Says by UDP that the answer is too long for that.
    fn truncate(&self) {
        self.state.lock().unwrap().truncates = true;
    }

    fn asked(&self, name: &str, kind: u16) -> usize {
        self.state.lock().unwrap().asked.get(&(name.to_owned(), kind)).copied().unwrap_or(0)
    }

    fn asked_by_tcp(&self) -> usize {
        self.state.lock().unwrap().asked_by_tcp
    }

    /// Waits until [`NAME`] was asked for so often again.
    fn wait_for_rounds(&self, rounds: usize) {
        let before = self.asked(NAME, A);
        eventually(DEADLINE, "it is asked again", || self.asked(NAME, A) >= before + rounds);
    }
}

impl Zone {
    /// RFC 1035 §4.
    fn answer(&mut self, question: &[u8], by_tcp: bool) -> Vec<u8> {
        let mut labels = Vec::new();
        let mut at = 12;
        while question[at] > 0 {
            let end = at + 1 + usize::from(question[at]);
            labels.push(String::from_utf8(question[at + 1..end].to_vec()).unwrap());
            at = end;
        }
        let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
        let key = (labels.join("."), kind);
        *self.asked.entry(key.clone()).or_default() += 1;
        self.asked_by_tcp += usize::from(by_tcp);
        let none = Answer::Code(NXDOMAIN);
        let (code, records) = match self.answers.get(&key).unwrap_or(&none) {
            Answer::Garbage => return vec![0xff; 7],
            Answer::Code(code) => (*code, &[][..]),
            Answer::Records(records) => (0, records.as_slice()),
        };
        let truncated = self.truncates && !by_tcp;
        let records = if truncated { &[] } else { records };
        // A response; recursion is available.
        let flags = [0x81 | u8::from(truncated) << 1, 0x80 | code];
        let mut answer = [&question[..2], &flags, &[0, 1, 0, records.len() as u8, 0, 0, 0, 0]].concat();
        answer.extend(&question[12..at + 5]);
        for (ttl, data) in records {
            // The name is that of the question.
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend((data.len() as u16).to_be_bytes());
            answer.extend(data);
        }
        answer
    }
}
