//! A blocking HTTP/1.1 client over mutual TLS that reads strictly and hides nothing.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::DEADLINE;
use crate::http::{Incoming, MessageError, Response};
use crate::pattern::{Pattern, Sha256};
use crate::pki::{Authority, Issued};

mod trust;

/// How to connect. Offers TLS 1.2 and 1.3 and the ALPN `http/1.1`, resumes nothing, waits at most
/// [`DEADLINE`] for each read and write, unless told otherwise.
#[derive(Debug, Clone)]
pub struct Client {
    trust: Option<RootCertStore>,
    identity: Option<Issued>,
    server_name: String,
    host: Option<String>,
    send_sni: bool,
    alpn: Vec<Vec<u8>>,
    versions: &'static [&'static SupportedProtocolVersion],
    resumption: Resumption,
    timeout: Duration,
}

/// An established connection. In TLS 1.3 a client is done before the server has looked at its certificate, so
/// that a refusal shows at the first read.
#[derive(Debug)]
pub struct Connection {
    incoming: Incoming<StreamOwned<ClientConnection, TcpStream>>,
    host: String,
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

/// Why a request or handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No TCP connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// TLS failed here, or the server sent a fatal alert.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The TCP stream ended without `close_notify`.
    #[error("the server closed without close_notify")]
    Cut,
    /// The TCP connection was reset.
    #[error("the server reset the connection")]
    Reset,
    /// Nothing came, or nothing was taken, for the time limit.
    #[error("the server did nothing within the time limit")]
    Timeout,
    /// The stream failed in another way.
    #[error("the stream failed: {0}")]
    Io(#[source] io::Error),
    /// The response is not valid HTTP, or the stream ended within it.
    #[error(transparent)]
    Message(MessageError),
}

impl Client {
    /// A client that knows the server as `server_name`, in SNI, certificate and `Host`.
    pub fn new(server_name: &str, trust: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trust.certificate().clone()).expect("an authority certificate");
        Self {
            trust: Some(roots),
            identity: None,
            server_name: server_name.to_owned(),
            host: None,
            send_sni: true,
            alpn: vec![b"http/1.1".to_vec()],
            versions: rustls::DEFAULT_VERSIONS,
            resumption: Resumption::disabled(),
            timeout: DEADLINE,
        }
    }

    /// Presents this certificate when asked.
    pub fn identity(mut self, identity: &Issued) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Presents no certificate.
    pub fn anonymous(mut self) -> Self {
        self.identity = None;
        self
    }

    /// Uses this name in SNI and for the server's certificate.
    pub fn server_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.server_name);
        self
    }

    /// Uses this name in `Host`, whatever the server's name in TLS is.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Sends no SNI.
    pub fn without_sni(mut self) -> Self {
        self.send_sni = false;
        self
    }

    /// Takes any server certificate, to find out what a server does after the handshake.
    pub fn accept_any_server(mut self) -> Self {
        self.trust = None;
        self
    }

    /// Offers these ALPN protocols; none leaves the extension out.
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Offers TLS 1.2 only.
    pub fn tls12_only(mut self) -> Self {
        const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
        self.versions = TLS12;
        self
    }

    /// Resumes sessions; clones of this client share them.
    pub fn resuming(mut self) -> Self {
        self.resumption = Resumption::in_memory_sessions(16);
        self
    }

    /// Waits at most this long for each read and write.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects and completes the handshake as far as the client sees it.
    pub fn connect(&self, address: SocketAddr) -> Result<Connection, ClientError> {
        let mut tcp = TcpStream::connect_timeout(&address, self.timeout).map_err(ClientError::Connect)?;
        tcp.set_nodelay(true).map_err(ClientError::Connect)?;
        tcp.set_read_timeout(Some(self.timeout)).map_err(ClientError::Connect)?;
        tcp.set_write_timeout(Some(self.timeout)).map_err(ClientError::Connect)?;
        let name = ServerName::try_from(self.server_name.clone()).expect("a DNS name or IP address");
        let mut tls = ClientConnection::new(Arc::new(self.config()), name)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).map_err(client_error)?;
        }
        let host = self.host.as_ref().unwrap_or(&self.server_name).clone();
        Ok(Connection { incoming: Incoming::new(StreamOwned::new(tls, tcp)), host })
    }

    /// Connects to a server that must refuse: in the handshake, or instead of waiting for a request.
    ///
    /// # Panics
    /// If the server accepts, that is if it sends anything, or nothing within the time limit.
    #[track_caller]
    pub fn refusal(&self, address: SocketAddr) -> ClientError {
        let mut connection = match self.connect(address) {
            Ok(connection) => connection,
            Err(refusal) => return refusal,
        };
        let (received, ending) = connection.incoming.rest();
        assert!(received.is_empty(), "the server sent {:?}", String::from_utf8_lossy(&received));
        match ending {
            Ok(()) => panic!("the server closed politely instead of refusing the handshake"),
            Err(error) => match client_error(error) {
                ClientError::Timeout => panic!("the server accepted the handshake"),
                refusal => refusal,
            },
        }
    }

    fn config(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .expect("versions that the provider has");
        let builder = match &self.trust {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(trust::AnyServer::new(provider))),
        };
        let mut config = match &self.identity {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain().to_vec(), identity.key())
                .expect("a certificate with its key"),
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = self.send_sni;
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = self.resumption.clone();
        config
    }
}

impl Connection {
    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let stream = self.incoming.stream_mut();
        stream.write_all(bytes).and_then(|()| stream.flush()).map_err(client_error)
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
        let sent = self.send(&head).and_then(|()| {
            body.for_each_block(|block| {
                if !chunked {
                    return self.send(block);
                }
                let size = format!("{:x}\r\n", block.len());
                self.send(&[size.as_bytes(), block, b"\r\n"].concat())
            })
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

impl ClientError {
    /// The fatal alert that the server sent, if that is what happened.
    pub fn alert(&self) -> Option<AlertDescription> {
        match self {
            Self::Tls(rustls::Error::AlertReceived(alert)) => Some(*alert),
            _ => None,
        }
    }
}

fn message_error(error: MessageError) -> ClientError {
    match error {
        MessageError::Io(error) => client_error(error),
        other => ClientError::Message(other),
    }
}

/// rustls hands its errors through as I/O errors.
fn client_error(error: io::Error) -> ClientError {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return ClientError::Tls(tls.clone());
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ClientError::Cut,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ClientError::Reset,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Timeout,
        _ => ClientError::Io(error),
    }
}

#[cfg(test)]
mod tests;
