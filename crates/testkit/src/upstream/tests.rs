use std::io::{Read, Write};

use super::*;
use crate::http::{Incoming, MessageError, Response};
use crate::{DEADLINE, Pattern, sha256_hex};

struct Peer(Incoming<TcpStream>);

impl Peer {
    fn connect(upstream: &Upstream) -> Self {
        let stream = TcpStream::connect(upstream.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(Incoming::new(stream))
    }

    fn send(&mut self, text: &str) {
        self.0.stream_mut().write_all(text.as_bytes()).unwrap();
    }

    fn response(&mut self) -> Result<Response, MessageError> {
        let mut body = Vec::new();
        let response = self.0.response(true, &mut |part| body.extend_from_slice(part))?;
        Ok(Response { body, ..response })
    }

    fn get(&mut self, target: &str) -> Result<Response, MessageError> {
        self.send(&format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n"));
        self.response()
    }
}

#[test]
fn echoes_requests_on_one_connection() {
    let upstream = Upstream::start();
    let mut peer = Peer::connect(&upstream);
    peer.send(
        "POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-One: \t1 \r\nX-one: \u{fc}\r\ncontent-length: 5\r\n\r\nhello",
    );
    let echo = Echo::of(&peer.response().unwrap());
    assert_eq!((echo.method.as_str(), echo.target.as_str()), ("POST", "/a?b=c"));
    assert_eq!(echo.headers.all("x-one"), ["1", "Ã¼"], "values are read as Latin-1");
    assert_eq!((echo.body_bytes, echo.body_sha256), (5, sha256_hex(b"hello")));

    peer.send(
        "PUT /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nt: 1\r\n\r\n",
    );
    let echo = Echo::of(&peer.response().unwrap());
    assert_eq!((echo.body_bytes, echo.trailers.get("T")), (5, Some("1")));

    let requests = upstream.wait_for_requests(2, DEADLINE);
    assert_eq!((requests[0].connection, requests[1].connection), (0, 0));
    assert!(requests[0].raw_head.starts_with(b"POST /a?b=c HTTP/1.1\r\nHost: x\r\n"));
    assert_eq!((upstream.connections_accepted(), upstream.connections_open()), (1, 1));
    assert!(upstream.errors().is_empty());
}

#[test]
fn answers_its_own_paths() {
    let upstream = Upstream::start();
    let mut peer = Peer::connect(&upstream);
    for (path, status) in [("/status/404", 404), ("/status/204", 204), ("/status/304", 304)] {
        let response = peer.get(path).unwrap();
        assert_eq!((response.status, response.body_bytes), (status, 0));
    }
    for path in ["/big/100000", "/big-chunked/100000"] {
        assert_eq!(peer.get(path).unwrap().body, Pattern::new(100_000).to_vec(), "{path}");
    }
    let response = peer.get("/trailers").unwrap();
    assert_eq!((response.text(), response.trailers.get("x-checksum")), ("first second", Some("ok")));
    peer.send("HEAD /big/5 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let response = peer.0.response(false, &mut |_| {}).unwrap();
    assert_eq!(response.headers.get("content-length"), Some("5"));
    assert!(peer.0.head().unwrap().is_none(), "closed as asked");
}

#[test]
fn continues_when_asked_to() {
    let upstream = Upstream::start();
    let mut peer = Peer::connect(&upstream);
    peer.send("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    let interim = peer.0.head().unwrap().unwrap();
    assert_eq!(interim.start_line, "HTTP/1.1 100 Continue");
    peer.send("ok");
    assert_eq!(Echo::of(&peer.response().unwrap()).body_bytes, 2);
}

#[test]
fn records_what_is_wrong_with_a_request() {
    let upstream = Upstream::start();
    for (request, problem) in [
        ("GET  / HTTP/1.1\r\nhost: x\r\n\r\n", "request line"),
        ("GET / HTTP/2\r\nhost: x\r\n\r\n", "request line"),
        ("GET / HTTP/1.1\r\n\r\n", "host"),
        ("GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n", "host"),
        (
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "content-length",
        ),
    ] {
        let mut peer = Peer::connect(&upstream);
        peer.send(request);
        assert!(matches!(peer.response(), Err(MessageError::Ended(_))), "{request}");
        let errors = upstream.errors();
        assert!(errors.last().unwrap().contains(problem), "{errors:?}");
    }
    let mut peer = Peer::connect(&upstream);
    peer.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nshort");
    peer.0.stream().shutdown(Shutdown::Write).unwrap();
    assert!(peer.response().is_err());
    assert!(upstream.errors().last().unwrap().contains("ended within a body"));
}

#[test]
fn follows_scripts() {
    let upstream = Upstream::start();
    upstream.on("/lie", Script::new().send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort").close());
    upstream.on("/nothing", Script::new().close());
    upstream.on("/reset", Script::new().reset());
    upstream.on("/interim", Script::new().send("HTTP/1.1 103 x\r\n\r\n").respond(200, &[("a", "b")], "ok"));
    upstream
        .on("/slow", Script::new().trickle("HTTP/1.1 200 \r\n\r\nslow", Duration::from_micros(1)).close());
    upstream.on(
        "/pattern",
        Script::new()
            .send("HTTP/1.1 200 x\r\ncontent-length: 70000\r\n\r\n")
            .send_pattern(Pattern::new(70_000)),
    );
    let get = |target: &str| Peer::connect(&upstream).get(target);
    assert!(matches!(get("/lie"), Err(MessageError::Ended("within a body"))));
    assert!(matches!(get("/nothing"), Err(MessageError::Ended("before a response"))));
    assert!(matches!(get("/reset"), Err(MessageError::Io(_))));
    let response = get("/interim?query").unwrap();
    assert_eq!(
        (&response.interim[..], response.headers.get("a"), response.text()),
        (&[103][..], Some("b"), "ok")
    );
    assert_eq!(get("/slow").unwrap().text(), "slow");
    assert_eq!(get("/pattern").unwrap().body, Pattern::new(70_000).to_vec());
}

#[test]
fn answers_before_the_body_is_read() {
    let upstream = Upstream::start();
    upstream.on("/early", Script::new().respond(413, &[("connection", "close")], "too large"));
    let mut peer = Peer::connect(&upstream);
    peer.send("POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nbeginning");
    assert_eq!(peer.response().unwrap().status, 413);
    assert_eq!(peer.0.stream_mut().read(&mut [0]).unwrap(), 0, "closed after the answer");
}

#[test]
fn stops_at_gates() {
    let upstream = Upstream::start();
    let gate = Gate::new();
    upstream.on("/gate", Script::new().read_body().wait(&gate).respond(200, &[], "late"));
    let mut peers = [Peer::connect(&upstream), Peer::connect(&upstream)];
    for peer in &mut peers {
        peer.send("GET /gate HTTP/1.1\r\nhost: x\r\n\r\n");
    }
    gate.wait_for_arrivals(2, DEADLINE);
    for peer in &peers {
        let stream = peer.0.stream();
        stream.set_nonblocking(true).unwrap();
        assert!(stream.peek(&mut [0]).is_err(), "nothing was sent yet");
        stream.set_nonblocking(false).unwrap();
    }
    gate.open();
    for peer in &mut peers {
        assert_eq!(peer.response().unwrap().text(), "late");
    }
}

#[test]
fn stops_and_starts_again_at_its_address() {
    let upstream = Upstream::start();
    let gate = Gate::new();
    upstream.on("/stuck", Script::new().wait(&gate));
    let mut peer = Peer::connect(&upstream);
    peer.send("GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n");
    gate.wait_for_arrivals(1, DEADLINE);
    let address = upstream.address();
    upstream.stop();
    assert!(TcpStream::connect(address).is_err());
    let upstream = Upstream::start_at(address);
    let mut peer = Peer::connect(&upstream);
    assert_eq!(peer.get("/").unwrap().status, 200);
    upstream.close_connections();
    assert!(peer.0.head().unwrap().is_none());
    eventually(DEADLINE, "the connection is forgotten", || upstream.connections_open() == 0);
}
