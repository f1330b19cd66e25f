//! An established connection of a client.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use rustls::{AlertDescription, ClientConnection, ProtocolVersion, StreamOwned};
use rustls_pki_types::CertificateDer;

use super::{ClientError, client_error};
use crate::http::{Incoming, MessageError, Response};
use crate::pattern::{Pattern, Sha256};

/// An established connection. In TLS 1.3 a client is done before the server has looked at its certificate, so
/// that a refusal shows at the first read.
#[derive(Debug)]
pub struct Connection {
    pub(super) incoming: Incoming<StreamOwned<ClientConnection, TcpStream>>,
    host: String,
    early_data_sent: bool,
}

/// How the server ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// By `close_notify`.
    Notified,
    /// By a fatal alert.
    Alert(AlertDescription),
    /// By the end of the TCP stream alone, which looks like an attack (RFC 8446 §6.1).
    Cut,
    /// By a TCP reset.
    Reset,
}

impl Connection {
    pub(super) fn new(
        stream: StreamOwned<ClientConnection, TcpStream>,
        host: String,
        early_data_sent: bool,
    ) -> Self {
        Self { incoming: Incoming::new(stream), host, early_data_sent }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let stream = self.incoming.stream_mut();
        stream.write_all(bytes).and_then(|()| stream.flush()).map_err(client_error)
    }

    /// Reads exactly so many bytes, whatever they are.
    pub fn exactly(&mut self, count: usize) -> Result<Vec<u8>, ClientError> {
        self.incoming.take(count).map_err(client_error)
    }

    /// Reads one response that may have a body.
    pub fn response(&mut self) -> Result<Response, ClientError> {
        self.read_response(true)
    }

    /// Reads one response to HEAD.
    pub fn response_to_head(&mut self) -> Result<Response, ClientError> {
        self.read_response(false)
    }

    /// Sends GET and reads the response.
    pub fn get(&mut self, target: &str) -> Result<Response, ClientError> {
        self.request("GET", target, &[], b"")
    }

    /// Sends POST with a body of known length and reads the response.
    pub fn post(&mut self, target: &str, body: &[u8]) -> Result<Response, ClientError> {
        self.request("POST", target, &[], body)
    }

    /// Sends a request and reads its response. `host` is added unless given, `content-length` if there is a body.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, ClientError> {
        let length = body.len().to_string();
        let mut fields = fields.to_vec();
        if !body.is_empty() {
            fields.push(("content-length", &length));
        }
        let mut message = self.head(method, target, &fields);
        message.extend_from_slice(body);
        self.send(&message)?;
        self.read_response(method != "HEAD")
    }

    /// Sends POST with a large body, in chunks if asked to, and reads the response.
    ///
    /// If the server answers early and stops taking the body, the answer is read all the same.
    pub fn upload(&mut self, target: &str, body: Pattern, chunked: bool) -> Result<Response, ClientError> {
        let length = body.len().to_string();
        let framing = if chunked { ("transfer-encoding", "chunked") } else { ("content-length", &*length) };
        let head = self.head("POST", target, &[framing]);
        // A server that has answered already may have stopped reading.
        let sent = self.send(&head);
        self.upload_body(body, chunked).map_err(|error| sent.err().unwrap_or(error))
    }

    /// Sends the body of a POST whose head was sent, and reads the response, as [`Self::upload`] does.
    pub fn upload_body(&mut self, body: Pattern, chunked: bool) -> Result<Response, ClientError> {
        let sent = body.for_each_block(|block| {
            if !chunked {
                return self.send(block);
            }
            let size = format!("{:x}\r\n", block.len());
            self.send(&[size.as_bytes(), block, b"\r\n"].concat())
        });
        let sent = sent.and_then(|()| if chunked { self.send(b"0\r\n\r\n") } else { Ok(()) });
        // What went wrong while sending is the better explanation if there is no response either.
        self.response().map_err(|error| sent.err().unwrap_or(error))
    }

    /// Sends GET and hashes the body instead of keeping it: the response, and the body's SHA-256 in hexadecimal.
    pub fn download(&mut self, target: &str) -> Result<(Response, String), ClientError> {
        let head = self.head("GET", target, &[]);
        self.send(&head)?;
        let mut hash = Sha256::new();
        let response = self.incoming.response(true, &mut |part| hash.update(part)).map_err(message_error)?;
        Ok((response, hash.finish_hex()))
    }

    /// A request head ready to be sent, `host` added unless given.
    pub fn head(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("host: {}\r\n", self.host));
        }
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Reads until the server closes: everything that came before, and how it closed.
    ///
    /// # Panics
    /// If it does not close within the time limit.
    #[track_caller]
    pub fn wait_closed(&mut self) -> (Vec<u8>, Closing) {
        let (received, ending) = self.incoming.rest();
        let closing = match ending.map_err(client_error) {
            Ok(()) => Closing::Notified,
            Err(ClientError::Cut) => Closing::Cut,
            Err(ClientError::Reset) => Closing::Reset,
            Err(error) => match error.alert() {
                Some(alert) => Closing::Alert(alert),
                None => panic!("the server did not close: {error}"),
            },
        };
        (received, closing)
    }

    /// Says that nothing more will be sent (`close_notify`), and still reads.
    pub fn close_notify(&mut self) -> Result<(), ClientError> {
        let stream = self.incoming.stream_mut();
        stream.conn.send_close_notify();
        stream.flush().map_err(client_error)
    }

    /// Vanishes by a TCP reset.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.incoming.stream().sock);
        socket.set_linger(Some(Duration::ZERO)).expect("set SO_LINGER");
    }

    /// The protocol version that was agreed on.
    pub fn protocol_version(&self) -> ProtocolVersion {
        self.tls().protocol_version().expect("the handshake is complete")
    }

    /// The host that requests are for.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The ALPN protocol that was agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls().alpn_protocol()
    }

    /// The chain that the server presented.
    pub fn server_chain(&self) -> &[CertificateDer<'static>] {
        self.tls().peer_certificates().expect("a server always presents a chain")
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.tls().handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Whether the server took the early data that was sent to it; nothing if none was sent.
    pub fn early_data_accepted(&self) -> Option<bool> {
        self.early_data_sent.then(|| self.tls().is_early_data_accepted())
    }

    /// TLS 1.3 session tickets received so far; they arrive with the first response.
    pub fn tickets_received(&self) -> u32 {
        self.tls().tls13_tickets_received()
    }

    /// The TCP stream below, to change its options or end one direction.
    pub fn tcp(&self) -> &TcpStream {
        &self.incoming.stream().sock
    }

    fn tls(&self) -> &ClientConnection {
        &self.incoming.stream().conn
    }

    fn read_response(&mut self, has_body: bool) -> Result<Response, ClientError> {
        let mut body = Vec::new();
        let mut sink = |part: &[u8]| body.extend_from_slice(part);
        let response = self.incoming.response(has_body, &mut sink).map_err(message_error)?;
        Ok(Response { body, ..response })
    }
}

fn message_error(error: MessageError) -> ClientError {
    match error {
        MessageError::Io(error) => client_error(error),
        other => ClientError::Message(other),
    }
}
