//! Peers that a test plays by hand, byte by byte: an upstream, and a client below TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ringward_testkit::{DEADLINE, eventually_some};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};

use super::LOOPBACK;

/// An upstream whose every byte a test sends, for what no script can time.
pub(crate) struct PlayedUpstream(TcpListener);

/// A connection of the proxy to a [`PlayedUpstream`].
pub(crate) struct PlayedConnection {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl PlayedUpstream {
    pub(crate) fn start() -> PlayedUpstream {
        PlayedUpstream(TcpListener::bind(LOOPBACK).expect("listen for requests"))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("the address that was bound")
    }

    /// Waits for the proxy's next connection.
    #[track_caller]
    pub(crate) fn accept(&self) -> PlayedConnection {
        eventually_some(DEADLINE, "the proxy connects", || self.accept_waiting())
    }

    /// A connection that the proxy has made already.
    pub(crate) fn accept_waiting(&self) -> Option<PlayedConnection> {
        self.0.set_nonblocking(true).expect("change the mode");
        let accepted = self.0.accept();
        self.0.set_nonblocking(false).expect("change the mode");
        accepted.ok().map(|(stream, _)| PlayedConnection::new(stream))
    }
}

impl PlayedConnection {
    fn new(stream: TcpStream) -> PlayedConnection {
        stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("set a timeout");
        PlayedConnection { stream, received: Vec::new() }
    }

    /// Reads the head of a request.
    pub(crate) fn head(&mut self) -> String {
        let mut block = [0; 4096];
        loop {
            if let Some(end) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.received.drain(..end + 4).collect();
                return String::from_utf8(head).expect("a head of text");
            }
            match self.stream.read(&mut block).expect("the head of a request") {
                0 => panic!("the proxy closed instead of sending a request"),
                n => self.received.extend_from_slice(&block[..n]),
            }
        }
    }

    /// Reads exactly this many bytes of text.
    pub(crate) fn exactly(&mut self, count: usize) -> String {
        String::from_utf8(self.bytes(count)).expect("text")
    }

    /// Reads exactly this many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.received.drain(..count.min(self.received.len())).collect();
        let here = bytes.len();
        bytes.resize(count, 0);
        self.stream.read_exact(&mut bytes[here..]).expect("the proxy sends bytes");
        bytes
    }

    /// Sends bytes. On the loopback interface they are in the peer's receive queue when this returns.
    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("the proxy takes bytes");
    }

    /// Waits until the proxy has closed; what it sent before.
    pub(crate) fn wait_closed(mut self) -> Vec<u8> {
        let mut received = self.received;
        received.extend(read_until_closed(&mut self.stream));
        received
    }
}

/// An address where nobody listens. The socket is bound, so that nobody else can begin to.
pub(crate) fn deserted() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&LOOPBACK.into()).expect("a free port");
    let address =
        socket.local_addr().expect("the address that was bound").as_socket().expect("an IP address");
    (socket, address)
}

/// An address that takes no more connections and refuses none: a listener whose queue is full.
pub(crate) fn congested() -> (Socket, Vec<TcpStream>, SocketAddr) {
    let (socket, address) = deserted();
    socket.listen(0).expect("listen");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue does not fill up");
    }
    (socket, waiting, address)
}

/// A TCP connection that TLS has not begun on.
pub(crate) fn connect_tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect to the gateway");
    stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("set a timeout");
    stream.set_nodelay(true).expect("set TCP_NODELAY");
    stream
}

/// Stands between a client and `target` and passes every byte on by itself, for one connection: where to connect to.
pub(crate) fn byte_by_byte(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(LOOPBACK).expect("listen for a client");
    let address = listener.local_addr().expect("the address that was bound");
    thread::spawn(move || {
        let (client, _) = listener.accept().expect("the client connects");
        let server = connect_tcp(target);
        client.set_nodelay(true).expect("set TCP_NODELAY");
        let (mut from_server, mut to_client) =
            (server.try_clone().expect("a second handle"), client.try_clone().expect("a second handle"));
        thread::spawn(move || pass_bytes(&mut from_server, &mut to_client));
        let (mut from_client, mut to_server) = (client, server);
        pass_bytes(&mut from_client, &mut to_server);
    });
    address
}

/// Until one of both has had enough.
fn pass_bytes(from: &mut TcpStream, to: &mut TcpStream) {
    let mut byte = [0];
    while matches!(from.read(&mut byte), Ok(1)) && to.write_all(&byte).is_ok() {}
    // Fails only if it is closed already.
    let _ = to.shutdown(Shutdown::Write);
}

/// Everything that comes until the peer closes or resets the connection.
pub(crate) fn read_until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let mut block = [0; 4096];
    loop {
        match stream.read(&mut block) {
            Ok(0) => return received,
            Ok(n) => received.extend_from_slice(&block[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return received,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the peer does not close: {error}"),
        }
    }
}

/// The bytes of a ClientHello that asks for `name`; a good one.
pub(crate) fn client_hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version that the provider has")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a DNS name");
    let mut hello = Vec::new();
    ClientConnection::new(Arc::new(config), name)
        .and_then(|mut client| client.write_tls(&mut hello).map_err(|_| rustls::Error::EncryptError))
        .expect("a ClientHello");
    hello
}
