//! The client of the demo: one request over mTLS, one connection.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::pki::PemFiles;

/// A response.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// Its content.
    pub(super) body: String,
}

/// Asks `https://localhost` at `address` for `path`, as the client with these files.
///
/// # Errors
/// What failed on the way, in words.
pub(super) fn get(address: SocketAddr, ca: &Path, client: &PemFiles, path: &str) -> Result<Answer, String> {
    let config = config(ca, client)?;
    let name = ServerName::try_from(HOST).map_err(|error| error.to_string())?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let response = exchange(address, connection, path).map_err(|error| format!("GET {path}: {error}"))?;
    parse(&response).ok_or_else(|| format!("GET {path}: the response is not HTTP"))
}

fn config(ca: &Path, client: &PemFiles) -> Result<ClientConfig, String> {
    let pem = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(&pem(ca)?).map_err(|error| error.to_string())?;
    roots.add(ca).map_err(|error| error.to_string())?;
    let chain = CertificateDer::from_pem_slice(&pem(&client.chain)?).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(&pem(&client.key)?).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
    builder.with_client_auth_cert(vec![chain], key).map_err(|error| error.to_string())
}

fn exchange(address: SocketAddr, connection: ClientConnection, path: &str) -> io::Result<Vec<u8>> {
    let socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let mut stream = StreamOwned::new(connection, socket);
    let port = address.port();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut response = Vec::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut response)?;
    Ok(response)
}

fn parse(response: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(response);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

/// As the host of the demo's configuration is named.
pub(super) const HOST: &str = "localhost";
const TIMEOUT: Duration = Duration::from_secs(10);
const RESPONSE_BYTES_MAX: u64 = 64 * 1024;
