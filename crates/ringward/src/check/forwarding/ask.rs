//! One request of a client, written byte by byte where that makes a difference.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::Request;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::papers::{Identity, Papers};

/// A request, and who sends it from where.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    pub(super) to: SocketAddr,
    /// In the handshake and in the request.
    pub(super) host: String,
    /// The address that the connection comes from, of the loopback network.
    pub(super) source: Ipv4Addr,
    /// What the connection begins with.
    pub(super) preface: Vec<u8>,
    pub(super) identity: Option<&'a Identity>,
    pub(super) http2: bool,
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) trailers: Vec<(String, String)>,
}

/// What the client got.
#[derive(Debug)]
pub(super) enum Answer {
    Status(u16),
    /// There was no connection, or it was ended: in words.
    Refused(String),
}

impl Ask<'_> {
    /// Sends it on a connection of its own.
    ///
    /// # Errors
    /// If that cannot be tried, in words.
    pub(super) async fn send(&self, papers: &Papers) -> Result<Answer, String> {
        let alpn: &[u8] = if self.http2 { b"h2" } else { b"http/1.1" };
        let config = papers.client_config(self.identity, alpn)?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let asked = async {
            let mut stream = connect(self.source, self.to).await.map_err(Trouble::Here)?;
            stream.write_all(&self.preface).await.map_err(Trouble::There)?;
            let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
            let stream = stream.map_err(Trouble::There)?;
            if self.http2 { self.send_http2(stream).await } else { self.send_http1(stream).await }
        };
        match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(status)) => Ok(Answer::Status(status)),
            Ok(Err(Trouble::There(error))) => Ok(Answer::Refused(error.to_string())),
            Ok(Err(Trouble::Here(error))) => {
                Err(format!("cannot connect from {} to {}: {error}", self.source, self.to))
            }
            Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
        }
    }

    async fn send_http1(&self, mut stream: TlsStream<TcpStream>) -> Result<u16, Trouble> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.host);
        let fields = [("connection", "close"), ("transfer-encoding", "chunked")];
        let fields = fields.into_iter().chain(self.fields.iter().map(|(name, value)| (&**name, &**value)));
        fields.for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        text += "\r\n1\r\nx\r\n0\r\n";
        self.trailers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        text += "\r\n";
        let mut read = Vec::new();
        let exchanged = async {
            stream.write_all(text.as_bytes()).await?;
            // The end of the connection may be an error, and nothing of interest follows the head.
            while !read.windows(4).any(|end| end == b"\r\n\r\n") && read.len() < HEAD_BYTES_MAX {
                if stream.read_buf(&mut read).await? == 0 {
                    break;
                }
            }
            io::Result::Ok(())
        };
        let exchanged = exchanged.await;
        let status = read
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| str::from_utf8(rest.get(..3)?).ok()?.parse().ok());
        status.ok_or_else(|| Trouble::There(exchanged.err().unwrap_or(io::ErrorKind::UnexpectedEof.into())))
    }

    async fn send_http2(&self, stream: TlsStream<TcpStream>) -> Result<u16, Trouble> {
        let there = |error: h2::Error| Trouble::There(io::Error::other(error));
        let (mut client, connection) = h2::client::handshake(stream).await.map_err(there)?;
        let driven = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(&*self.method)
            .uri(format!("https://{}{}", self.host, self.target))
            .body(())
            .map_err(|error| Trouble::There(io::Error::other(error)))?;
        *request.headers_mut() = map(&self.fields);
        let (response, mut body) = client.send_request(request, false).map_err(there)?;
        body.send_data(Bytes::from_static(b"x"), self.trailers.is_empty()).map_err(there)?;
        if !self.trailers.is_empty() {
            body.send_trailers(map(&self.trailers)).map_err(there)?;
        }
        let status = response.await.map(|response| response.status().as_u16()).map_err(there);
        drop(client);
        driven.abort();
        status
    }
}

/// Why there is no status.
enum Trouble {
    /// We could not even try.
    Here(io::Error),
    /// The other side has ended it.
    There(io::Error),
}

/// Names that HTTP/2 cannot have (upper case) are written in lower case.
fn map(fields: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            map.append(name, value);
        }
    }
    map
}

async fn connect(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
    socket.connect(to).await
}

/// For a request that is answered at once.
const TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 64 * 1024;
