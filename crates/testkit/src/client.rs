//! A blocking HTTP/1.1 client over mutual TLS that reads strictly and hides nothing.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use rustls_pki_types::ServerName;
use socket2::{Domain, Socket, Type};

use crate::DEADLINE;
use crate::http::MessageError;
use crate::pki::{Authority, Issued};

mod connection;
mod sessions;
mod trust;

pub use connection::{Closing, Connection};
pub use sessions::Sessions;

/// How to connect. Offers TLS 1.2 and 1.3 and the ALPN `http/1.1`, resumes nothing, waits at most
/// [`DEADLINE`] for each read and write, unless told otherwise.
#[derive(Debug, Clone)]
pub struct Client {
    // rustls resumes a session only with the very verifier and resolver under which it began: clones share them.
    verifier: Arc<dyn ServerCertVerifier>,
    certificate: Arc<dyn ResolvesClientCert>,
    server_name: String,
    host: Option<String>,
    send_sni: bool,
    alpn: Vec<Vec<u8>>,
    versions: &'static [&'static SupportedProtocolVersion],
    sessions: Option<Sessions>,
    early_data: Option<Vec<u8>>,
    source: Option<IpAddr>,
    timeout: Duration,
}

/// A handshake whose last message, the client's, is ready and not sent.
#[derive(Debug)]
pub struct Greeting {
    connection: Connection,
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
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider()).build();
        Self {
            verifier: verifier.expect("a verifier with one root"),
            certificate: Arc::new(trust::NoCertificate),
            server_name: server_name.to_owned(),
            host: None,
            send_sni: true,
            alpn: vec![b"http/1.1".to_vec()],
            versions: rustls::DEFAULT_VERSIONS,
            sessions: None,
            early_data: None,
            source: None,
            timeout: DEADLINE,
        }
    }

    /// Presents this certificate when asked.
    pub fn identity(mut self, identity: &Issued) -> Self {
        let key = provider().key_provider.load_private_key(identity.key()).expect("a key that is supported");
        self.certificate =
            Arc::new(SingleCertAndKey::from(CertifiedKey::new(identity.chain().to_vec(), key)));
        self
    }

    /// Presents no certificate.
    pub fn anonymous(mut self) -> Self {
        self.certificate = Arc::new(trust::NoCertificate);
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
        self.verifier = Arc::new(trust::AnyServer::new(provider()));
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
    pub fn resuming(self) -> Self {
        self.sessions(&Sessions::new())
    }

    /// Keeps sessions here and resumes those that are here, whichever server they are of: as an attacker does.
    ///
    /// Only sessions of this client and its clones are offered: of the same trust and [`identity`](Self::identity).
    pub fn sessions(mut self, sessions: &Sessions) -> Self {
        self.sessions = Some(sessions.clone());
        self
    }

    /// Sends these bytes as early data (0-RTT) whenever it resumes a session, even if the server has not offered that.
    pub fn early_data(mut self, bytes: &[u8]) -> Self {
        self.early_data = Some(bytes.to_vec());
        self
    }

    /// Connects from this address.
    pub fn from(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Waits at most this long for each read and write.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects and completes the handshake as far as the client sees it.
    pub fn connect(&self, address: SocketAddr) -> Result<Connection, ClientError> {
        self.greet(address)?.finish()
    }

    /// Completes the handshake, as far as the client sees it, on a connection that is there.
    pub fn over(&self, tcp: TcpStream) -> Result<Connection, ClientError> {
        self.greet_over(tcp)?.finish()
    }

    /// Connects and goes through the handshake until only the client's own last word in it is left to send.
    pub fn greet(&self, address: SocketAddr) -> Result<Greeting, ClientError> {
        self.greet_over(self.tcp(address).map_err(ClientError::Connect)?)
    }

    fn greet_over(&self, mut tcp: TcpStream) -> Result<Greeting, ClientError> {
        tcp.set_nodelay(true).map_err(ClientError::Connect)?;
        tcp.set_read_timeout(Some(self.timeout)).map_err(ClientError::Connect)?;
        tcp.set_write_timeout(Some(self.timeout)).map_err(ClientError::Connect)?;
        let name = ServerName::try_from(self.server_name.clone()).expect("a DNS name or IP address");
        let mut tls = ClientConnection::new(Arc::new(self.config()), name)?;
        let mut early_data_sent = false;
        if let (Some(bytes), Some(mut early)) = (&self.early_data, tls.early_data()) {
            early.write_all(bytes).map_err(client_error)?;
            early_data_sent = true;
        }
        let host = self.host.as_ref().unwrap_or(&self.server_name).clone();
        while tls.is_handshaking() {
            while tls.wants_write() {
                tls.write_tls(&mut tcp).map_err(client_error)?;
            }
            if tls.read_tls(&mut tcp).map_err(client_error)? == 0 {
                return Err(ClientError::Cut);
            }
            if let Err(error) = tls.process_new_packets() {
                // Our alert, which the server may not wait for.
                let _ = tls.write_tls(&mut tcp);
                return Err(error.into());
            }
        }
        Ok(Greeting { connection: Connection::new(StreamOwned::new(tls, tcp), host, early_data_sent) })
    }

    fn tcp(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let Some(source) = self.source else { return TcpStream::connect_timeout(&address, self.timeout) };
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect_timeout(&address.into(), self.timeout)?;
        Ok(socket.into())
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
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(self.versions)
            .expect("versions that the provider has")
            .dangerous()
            .with_custom_certificate_verifier(self.verifier.clone())
            .with_client_cert_resolver(self.certificate.clone());
        config.enable_sni = self.send_sni;
        config.enable_early_data = self.early_data.is_some();
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = sessions::resumption(self.sessions.as_ref(), self.early_data.is_some());
        config
    }
}

impl Greeting {
    /// Whether the handshake resumes an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.connection.is_resumed()
    }

    /// Sends what is left.
    pub fn finish(mut self) -> Result<Connection, ClientError> {
        self.connection.send(b"")?;
        Ok(self.connection)
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

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests;
