//! A client of tunnels that speaks either protocol.

use ringward_testkit::{Closing, Connection, Http2, flags, kind, openssl};

use super::support::{Builder, Gateway, HOST, Host, PlayedConnection, PlayedUpstream};

/// How a client reaches the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Http1,
    Http2,
}

/// How a tunnel has ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Orderly,
    Broken,
}

/// A client, and what it has read and not looked at.
pub(crate) enum Peer {
    Http1(Connection),
    Http2 { http2: Http2, stream: u32, received: Vec<u8>, ended: bool },
}

impl Peer {
    #[track_caller]
    pub(crate) fn connect(gateway: &Gateway, over: Over) -> Peer {
        Peer::with(&gateway.client(), gateway, over)
    }

    #[track_caller]
    pub(crate) fn with(client: &ringward_testkit::Client, gateway: &Gateway, over: Over) -> Peer {
        match over {
            Over::Http1 => Peer::Http1(client.connect(gateway.edge).unwrap()),
            Over::Http2 => {
                let connection = client.clone().alpn(&["h2"]).connect(gateway.edge).unwrap();
                // RFC 8441 §3 does not ask this of clients, but some libraries send it.
                let http2 = Http2::new(connection, &[(8, 1)]);
                Peer::Http2 { http2, stream: 0, received: Vec::new(), ended: false }
            }
        }
    }

    /// Asks for a tunnel.
    #[track_caller]
    pub(crate) fn ask(&mut self, path: &str, protocol: &str, fields: &[(&str, &str)]) {
        match self {
            Peer::Http1(connection) => {
                let mut all = vec![("Connection", "keep-alive, Upgrade"), ("Upgrade", protocol)];
                all.extend(fields);
                let head = connection.head("GET", path, &all);
                connection.send(&head).unwrap();
            }
            Peer::Http2 { .. } => {
                let protocol = protocol.to_ascii_lowercase();
                let mut all = vec![(":method", "CONNECT"), (":protocol", &*protocol), (":scheme", "https")];
                all.extend([(":path", path), (":authority", HOST)]);
                all.extend(fields);
                let stream = self.next_stream();
                self.http2().head(stream, &all, false).unwrap();
            }
        }
    }

    /// Sends an ordinary request.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) {
        match self {
            Peer::Http1(_) => self.ask_raw(&format!("GET {path} HTTP/1.1\r\n")),
            Peer::Http2 { .. } => {
                let stream = self.next_stream();
                self.http2().request(stream, "GET", path, &[], true).unwrap();
            }
        }
    }

    /// Sends a head of HTTP/1.1, to which the host is added.
    #[track_caller]
    pub(crate) fn ask_raw(&mut self, head: &str) {
        let Peer::Http1(connection) = self else { panic!("a client of HTTP/1.1") };
        connection.send(format!("{head}host: {HOST}\r\n\r\n").as_bytes()).unwrap();
    }

    fn next_stream(&mut self) -> u32 {
        let Peer::Http2 { stream, received, ended, .. } = self else { panic!("a client of HTTP/2") };
        *stream = if *stream == 0 { 1 } else { *stream + 2 };
        (*received, *ended) = (Vec::new(), false);
        *stream
    }

    pub(crate) fn http2(&mut self) -> &mut Http2 {
        let Peer::Http2 { http2, .. } = self else { panic!("a client of HTTP/2") };
        http2
    }

    pub(crate) fn into_http2(self) -> Http2 {
        let Peer::Http2 { http2, .. } = self else { panic!("a client of HTTP/2") };
        http2
    }

    pub(crate) fn into_connection(self) -> Connection {
        match self {
            Peer::Http1(connection) => connection,
            Peer::Http2 { http2, .. } => http2.into_connection(),
        }
    }

    /// Reads that the tunnel is open; the head that says so.
    #[track_caller]
    pub(crate) fn is_open(&mut self) -> String {
        match self {
            Peer::Http1(connection) => {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.extend(connection.exactly(1).expect("a head comes"));
                }
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                assert!(head.starts_with("http/1.1 101 "), "{head}");
                assert!(head.ends_with("\r\n\r\n") && head.contains("\r\nconnection: upgrade\r\n"), "{head}");
                head
            }
            Peer::Http2 { http2, stream, .. } => {
                let frame = http2.wait_for(kind::HEADERS);
                assert_eq!((frame.stream, frame.status()), (*stream, 200));
                assert_eq!(frame.flags & flags::END_STREAM, 0);
                frame.fields().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
            }
        }
    }

    /// Reads an answer that is no tunnel.
    #[track_caller]
    pub(crate) fn refusal(&mut self) -> (u16, Vec<u8>) {
        match self {
            Peer::Http1(connection) => {
                let response = connection.response().unwrap();
                (response.status, response.body)
            }
            Peer::Http2 { http2, stream, .. } => {
                let (status, body, _) = http2.response(*stream);
                (status, body)
            }
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match self {
            Peer::Http1(connection) => connection.send(bytes).unwrap(),
            Peer::Http2 { http2, stream, .. } => http2.send(kind::DATA, 0, *stream, bytes).unwrap(),
        }
    }

    /// Says that nothing more is sent.
    #[track_caller]
    pub(crate) fn end(&mut self) {
        match self {
            Peer::Http1(connection) => connection.close_notify().unwrap(),
            Peer::Http2 { http2, stream, .. } => {
                http2.send(kind::DATA, flags::END_STREAM, *stream, b"").unwrap();
            }
        }
    }

    /// Reads exactly so many bytes.
    #[track_caller]
    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        if let Peer::Http1(connection) = self {
            return connection.exactly(count).unwrap();
        }
        while self.received().len() < count {
            assert_eq!(self.frame(), None, "the stream goes on");
        }
        self.received().drain(..count).collect()
    }

    fn received(&mut self) -> &mut Vec<u8> {
        let Peer::Http2 { received, .. } = self else { panic!("a client of HTTP/2") };
        received
    }

    /// Reads a frame of the stream; how it has ended, if it has. Windows are given back.
    #[track_caller]
    fn frame(&mut self) -> Option<Ending> {
        let Peer::Http2 { http2, stream, received, ended } = self else { panic!("a client of HTTP/2") };
        if *ended {
            return Some(Ending::Orderly);
        }
        let frame = loop {
            match http2.frame() {
                Ok(frame) if frame.stream == *stream => break frame,
                Ok(_) => {}
                Err(_) => return Some(Ending::Broken),
            }
        };
        match frame.kind {
            kind::DATA => {
                let moved = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
                received.extend_from_slice(&frame.payload);
                *ended = frame.flags & flags::END_STREAM != 0;
                if !frame.payload.is_empty() {
                    http2.send(kind::WINDOW_UPDATE, 0, 0, &moved).unwrap();
                    if !*ended {
                        http2.send(kind::WINDOW_UPDATE, 0, *stream, &moved).unwrap();
                    }
                }
                ended.then_some(Ending::Orderly)
            }
            kind::RST_STREAM => Some(Ending::Broken),
            _ => None,
        }
    }

    /// Everything until the end, and how that was.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> (Vec<u8>, Ending) {
        if let Peer::Http1(connection) = self {
            let (rest, closing) = connection.wait_closed();
            return (rest, if closing == Closing::Notified { Ending::Orderly } else { Ending::Broken });
        }
        loop {
            if let Some(ending) = self.frame() {
                return (std::mem::take(self.received()), ending);
            }
        }
    }

    /// Waits until the other side has ended its direction, after which there is nothing.
    #[track_caller]
    pub(crate) fn wait_end(&mut self) {
        assert_eq!(self.rest(), (Vec::new(), Ending::Orderly));
    }

    /// Sends all of it, ends, and reads meanwhile what comes until the end.
    #[track_caller]
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> (Vec<u8>, Ending) {
        let mut received = Vec::new();
        match self {
            Peer::Http1(connection) => {
                for piece in bytes.chunks(64 << 10) {
                    connection.send(piece).unwrap();
                    received.extend(connection.exactly(piece.len()).unwrap());
                }
            }
            Peer::Http2 { .. } => {
                // As much is in flight as the first window allows, which is given back as the upstream takes it.
                let mut credit = 65_535;
                let mut rest = bytes;
                while !rest.is_empty() {
                    if credit == 0 {
                        credit = self.credit();
                    }
                    let n = rest.len().min(16 << 10).min(credit);
                    self.send(&rest[..n]);
                    rest = &rest[n..];
                    credit -= n;
                }
            }
        }
        self.end();
        let (rest, ending) = self.rest();
        received.extend(rest);
        (received, ending)
    }

    /// Reads frames until the stream's window grows, by how much it does.
    #[track_caller]
    fn credit(&mut self) -> usize {
        let Peer::Http2 { http2, stream, received, ended } = self else { panic!("a client of HTTP/2") };
        loop {
            let frame = http2.frame().unwrap();
            match frame.kind {
                kind::WINDOW_UPDATE if frame.stream == *stream => return frame.code() as usize,
                kind::DATA => {
                    let moved = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
                    received.extend_from_slice(&frame.payload);
                    *ended = frame.flags & flags::END_STREAM != 0;
                    if !frame.payload.is_empty() {
                        http2.send(kind::WINDOW_UPDATE, 0, 0, &moved).unwrap();
                        http2.send(kind::WINDOW_UPDATE, 0, *stream, &moved).unwrap();
                    }
                }
                kind::RST_STREAM => panic!("the stream was reset: {}", frame.code()),
                _ => {}
            }
        }
    }

    /// Is gone, without a word.
    pub(crate) fn vanish(self) {
        self.into_connection().reset();
    }

    /// Resets the stream.
    #[track_caller]
    pub(crate) fn call_off(&mut self) {
        const CANCEL: [u8; 4] = [0, 0, 0, 8];
        let Peer::Http2 { http2, stream, .. } = self else { panic!("a client of HTTP/2") };
        http2.send(kind::RST_STREAM, 0, *stream, &CANCEL).unwrap();
    }
}

/// A gateway for both protocols, whose one route goes to `upstream` and has these keys.
pub(crate) fn builder(upstream: &PlayedUpstream, keys: &str) -> Builder {
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", &format!("cluster = \"raw\"\n{keys}"));
    Gateway::builder()
        .listener("http2 = true")
        .section(&format!("[cluster.raw]\nendpoints = [\"{}\"]", upstream.address()))
        .host(host)
}

/// An open tunnel of `raw/1`.
#[track_caller]
pub(crate) fn accept(gateway: &Gateway, upstream: &PlayedUpstream, over: Over) -> (Peer, PlayedConnection) {
    let mut client = Peer::connect(gateway, over);
    let server = open(&mut client, upstream);
    (client, server)
}

/// The same for a client that is connected.
#[track_caller]
pub(crate) fn open(client: &mut Peer, upstream: &PlayedUpstream) -> PlayedConnection {
    client.ask("/", "raw/1", &[]);
    let mut server = upstream.accept();
    server.head();
    server.send(&switched("raw/1"));
    client.is_open();
    server
}

/// The response that opens a tunnel.
pub(crate) fn switched(protocol: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
}

/// What has to be answered to a key (RFC 6455 §4.2.2).
pub(crate) fn proof(key: &str) -> String {
    let input = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = openssl(["dgst", "-sha1", "-binary"], input.as_bytes());
    String::from_utf8(openssl(["base64"], &digest)).unwrap().trim().to_owned()
}

/// The key of the example in RFC 6455 §1.3, and its proof.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
