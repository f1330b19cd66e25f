use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::thread::{self, JoinHandle};

use rustls::server::WebPkiClientVerifier;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};

use super::*;
use crate::http::Incoming;
use crate::pattern::{Pattern, sha256_hex};
use crate::pki::Leaf;

/// A TLS server that demands a client certificate from `root` and serves one connection.
struct Server {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

fn serve(root: &Authority, then: impl FnOnce(Tls) + Send + 'static) -> Server {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(root.certificate().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let server = root.issue(&Leaf::server("localhost"));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(server.chain().to_vec(), server.key())
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 1;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
        while tls.is_handshaking() {
            if tls.complete_io(&mut tcp).is_err() {
                // Let the client read the alert before the socket goes.
                let _ = tcp.shutdown(Shutdown::Write);
                let _ = tcp.read_to_end(&mut Vec::new());
                return;
            }
        }
        then(StreamOwned::new(tls, tcp));
    });
    Server { address, thread }
}

/// Reads a head, sends `answer`, and closes with `close_notify`.
fn answering(answer: &'static str) -> impl FnOnce(Tls) + Send + 'static {
    move |mut tls| {
        let mut lines = BufReader::new(&mut tls).lines();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        tls.write_all(answer.as_bytes()).unwrap();
        tls.conn.send_close_notify();
        tls.flush().unwrap();
    }
}

#[test]
fn speaks_http_over_mutual_tls() {
    let root = Authority::root("Root");
    let server = serve(&root, answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
    let client = Client::new("localhost", &root).identity(&root.issue(&Leaf::client("a")));
    let mut connection = client.connect(server.address).unwrap();
    let response = connection.get("/").unwrap();
    assert_eq!((response.status, response.text()), (200, "ok"));
    assert_eq!(connection.protocol_version(), ProtocolVersion::TLSv1_3);
    assert_eq!(connection.alpn(), Some(&b"http/1.1"[..]));
    assert_eq!(connection.server_chain().len(), 1);
    assert_eq!((connection.is_resumed(), connection.tickets_received()), (false, 1));
    assert_eq!(connection.wait_closed(), (Vec::new(), Closing::Notified));
    server.thread.join().unwrap();
}

#[test]
fn shows_why_a_server_refuses() {
    let root = Authority::root("Root");
    let client = Client::new("localhost", &root);
    let stranger = Authority::root("Other").issue(&Leaf::client("a"));
    for (client, alert) in [
        (client.clone(), AlertDescription::CertificateRequired),
        (client.clone().identity(&stranger), AlertDescription::UnknownCA),
        (
            client.clone().identity(&stranger).anonymous().alpn(&["h2"]),
            AlertDescription::NoApplicationProtocol,
        ),
        (client.tls12_only(), AlertDescription::ProtocolVersion),
    ] {
        let server = serve(&root, drop);
        assert_eq!(client.refusal(server.address).alert(), Some(alert));
        server.thread.join().unwrap();
    }
}

#[test]
#[should_panic(expected = "the server accepted the handshake")]
fn an_accepted_handshake_is_no_refusal() {
    let root = Authority::root("Root");
    let server = serve(&root, |mut tls| drop(tls.read(&mut [0])));
    let client = Client::new("localhost", &root).identity(&root.issue(&Leaf::client("a")));
    client.timeout(Duration::from_millis(200)).refusal(server.address);
}

#[test]
fn checks_the_server_unless_told_otherwise() {
    let root = Authority::root("Root");
    let identity = root.issue(&Leaf::client("a"));
    let other = Client::new("other.example", &root).identity(&identity);
    let server = serve(&root, drop);
    assert!(matches!(other.connect(server.address), Err(ClientError::Tls(_))));
    server.thread.join().unwrap();

    let server = serve(&root, |tls| assert_eq!(tls.conn.server_name(), None));
    other.accept_any_server().without_sni().connect(server.address).unwrap().wait_closed();
    server.thread.join().unwrap();
}

#[test]
fn tells_apart_how_a_server_closes() {
    let root = Authority::root("Root");
    let client = Client::new("localhost", &root).identity(&root.issue(&Leaf::client("a")));
    let server = serve(&root, |mut tls| {
        tls.write_all(b"bye").unwrap();
        tls.sock.shutdown(Shutdown::Both).unwrap();
    });
    let (rest, closing) = client.connect(server.address).unwrap().wait_closed();
    assert_eq!((rest, closing), (b"bye".to_vec(), Closing::Cut));
    server.thread.join().unwrap();

    let server = serve(&root, answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"));
    let error = client.connect(server.address).unwrap().get("/").unwrap_err();
    assert!(matches!(error, ClientError::Message(MessageError::Ended("within a body"))), "{error}");
    server.thread.join().unwrap();

    let server = serve(&root, |tls| {
        socket2::SockRef::from(&tls.sock).set_linger(Some(Duration::ZERO)).unwrap();
    });
    assert_eq!(client.connect(server.address).unwrap().wait_closed().1, Closing::Reset);
    server.thread.join().unwrap();
}

#[test]
fn uploads_and_downloads() {
    let root = Authority::root("Root");
    let client = Client::new("localhost", &root).identity(&root.issue(&Leaf::client("a"))).host("h.example");
    let pattern = Pattern::new(200_000);
    for chunked in [false, true] {
        let server = serve(&root, move |tls| {
            let mut incoming = Incoming::new(tls);
            let head = incoming.head().unwrap().unwrap();
            assert_eq!(head.headers.get("host"), Some("h.example"));
            let framing = crate::http::request_framing(&head.headers).unwrap();
            let mut body = Vec::new();
            incoming.body(framing, &mut |part| body.extend_from_slice(part)).unwrap();
            assert_eq!(sha256_hex(&body), pattern.sha256_hex());
            incoming.stream_mut().write_all(b"HTTP/1.1 204 Stored\r\n\r\n").unwrap();
            assert_eq!(incoming.head().unwrap().unwrap().start_line, "GET /down HTTP/1.1");
            incoming.stream_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n").unwrap();
            pattern.write_to(incoming.stream_mut()).unwrap();
            incoming.stream_mut().flush().unwrap();
        });
        let mut connection = client.connect(server.address).unwrap();
        assert_eq!(connection.upload("/up", pattern, chunked).unwrap().status, 204);
        let (response, hash) = connection.download("/down").unwrap();
        assert_eq!((response.body_bytes, hash), (200_000, pattern.sha256_hex()));
        server.thread.join().unwrap();
    }
}

#[test]
fn reads_an_early_answer_to_an_upload() {
    let root = Authority::root("Root");
    let client = Client::new("localhost", &root).identity(&root.issue(&Leaf::client("a")));
    let server = serve(&root, |tls| {
        let mut incoming = Incoming::new(tls);
        incoming.head().unwrap();
        incoming.stream_mut().write_all(b"HTTP/1.1 413 x\r\ncontent-length: 0\r\n\r\n").unwrap();
        incoming.stream_mut().sock.shutdown(Shutdown::Write).unwrap();
        let _ = incoming.rest();
    });
    let mut connection = client.connect(server.address).unwrap();
    assert_eq!(connection.upload("/", Pattern::new(1_000_000), false).unwrap().status, 413);
    drop(connection);
    server.thread.join().unwrap();
}

/// A server without client authentication that serves so many connections, each with a new ticket if it wants to.
fn serve_many(root: &Authority, connections: usize, early_data: u32) -> Server {
    let server = root.issue(&Leaf::server("localhost"));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(server.chain().to_vec(), server.key())
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 1;
    config.max_early_data_size = early_data;
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        for _ in 0..connections {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut tls = ServerConnection::new(config.clone()).unwrap();
            while tls.is_handshaking() {
                tls.complete_io(&mut tcp).unwrap();
            }
            answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")(StreamOwned::new(tls, tcp));
        }
    });
    Server { address, thread }
}

#[test]
fn resumes_sessions_wherever_they_are_from() {
    let root = Authority::root("Root");
    let (one, two) = (serve_many(&root, 4, 0), serve_many(&root, 1, 0));
    let sessions = Sessions::new();
    let client = Client::new("localhost", &root).sessions(&sessions);
    let talk = |client: &Client, address| {
        let mut connection = client.connect(address).unwrap();
        connection.get("/").unwrap();
        connection.is_resumed()
    };
    assert!(!talk(&client, one.address) && sessions.len() == 1);
    assert!(talk(&client, one.address) && sessions.len() == 1 && sessions.received() == 2);
    let stolen = sessions.split_off(5);
    assert!(sessions.is_empty() && stolen.len() == 1);
    assert!(!talk(&client, one.address), "there was none");
    // It is offered, and the server cannot open it.
    let thief = client.clone().sessions(&stolen);
    assert!(!talk(&thief, two.address));
    assert_eq!((stolen.len(), stolen.received()), (1, 1), "used, and a new one received");
    // Another identity is another client.
    let other = client.clone().identity(&root.issue(&Leaf::client("a")));
    assert!(!talk(&other, one.address));
    [one, two].into_iter().for_each(|server| server.thread.join().unwrap());
}

#[test]
fn sends_early_data_if_there_is_a_session() {
    let root = Authority::root("Root");
    let server = serve_many(&root, 2, 0);
    let client = Client::new("localhost", &root).resuming().early_data(b"GET /early HTTP/1.1\r\n\r\n");
    for expected in [None, Some(false)] {
        let mut connection = client.connect(server.address).unwrap();
        assert_eq!(connection.get("/").unwrap().status, 200);
        assert_eq!(connection.early_data_accepted(), expected);
    }
    server.thread.join().unwrap();
}

#[test]
fn a_greeting_is_not_the_end_of_a_handshake() {
    let root = Authority::root("Root");
    let server = serve(&root, answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
    let client = Client::new("localhost", &root).identity(&root.issue(&Leaf::client("a")));
    let greeting = client.greet(server.address).unwrap();
    assert!(!greeting.is_resumed() && !server.thread.is_finished());
    assert_eq!(greeting.finish().unwrap().get("/").unwrap().text(), "ok");
    server.thread.join().unwrap();

    let server = serve(&root, answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    drop(client.greet(server.address).unwrap());
    server.thread.join().unwrap();
}
