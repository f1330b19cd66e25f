//! One check of one endpoint.
//!
//! Hides hyper, h2, TLS and every limit. An endpoint may be slow, dead, wrong or hostile: a check has a connection of its own, a time
//! limit and a limit of bytes, and takes no more of an answer than it needs. It follows no redirection and reads no body but that of gRPC.

use std::time::Duration;

use h2::RecvStream;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use ringward_config::{EndpointAddr, Probe};
use ringward_proxy::SocketTrouble;
use ringward_telemetry::{CheckOutcome, GrpcStatus};
use ringward_tls::EndpointTls;
use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::grpc::{self, Serving};
use crate::cause::in_full;

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection; what the kernel said.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The same of a Unix socket, where it is known what that means.
    #[error("cannot connect: {0}: {advice}", advice = .1.advice())]
    Socket(io::Error, SocketTrouble),
    /// A connection, but no TLS.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// Too slow, at whichever point.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Another status than expected.
    #[error("status {0}")]
    Status(u16),
    /// gRPC that failed.
    #[error("grpc-status {}", .0.as_str())]
    GrpcStatus(GrpcStatus),
    /// The service, or the server, takes no calls.
    #[error("{0}")]
    NotServing(&'static str),
    /// No answer, or none of the protocol.
    #[error("not an answer: {0}")]
    Protocol(String),
}

/// How an endpoint is reached, which is how requests reach it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way<'a> {
    /// By TLS.
    pub(super) tls: Option<&'a EndpointTls>,
    /// Ahead of it, the PROXY protocol says that this is nobody's connection but ours.
    pub(super) sends_proxy_protocol: bool,
}

/// Checks the endpoint at `addr` within `limit`.
///
/// # Errors
/// Why it cannot take requests.
pub(super) async fn check(
    probe: &Probe,
    addr: &EndpointAddr,
    way: Way<'_>,
    limit: Duration,
) -> Result<(), Failure> {
    timeout(limit, connect(probe, addr, way)).await.unwrap_or(Err(Failure::Timeout(limit)))
}

async fn connect(probe: &Probe, addr: &EndpointAddr, way: Way<'_>) -> Result<(), Failure> {
    let failed = |error| match SocketTrouble::of(addr, &error) {
        Some(trouble) => Failure::Socket(error, trouble),
        None => Failure::Connect(error),
    };
    match addr {
        EndpointAddr::Ip(at) => {
            let stream = TcpStream::connect(at).await.map_err(failed)?;
            connected(probe, addr, way, stream).await
        }
        EndpointAddr::Unix(path) => {
            let stream = connect_unix(path).await.map_err(failed)?;
            connected(probe, addr, way, stream).await
        }
    }
}

/// As requests do, it waits for room in the queue of the server, as long as a check may take.
async fn connect_unix(path: &str) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(QUEUE_RETRY).await,
            connected => return connected,
        }
    }
}

async fn connected(
    probe: &Probe,
    addr: &EndpointAddr,
    way: Way<'_>,
    mut stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(), Failure> {
    if way.sends_proxy_protocol {
        stream.write_all(PROXY_LOCAL).await.map_err(Failure::Connect)?;
    }
    let Some(tls) = way.tls else { return ask(probe, addr, "http", prior(probe), stream).await };
    let (config, name) = tls.client_config();
    let stream =
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| not_trusted(tls, error))?;
    tls.check_protocol(stream.get_ref().1.alpn_protocol())
        .map_err(|failure| Failure::Tls(failure.to_string()))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    ask(probe, addr, "https", http2, stream).await
}

/// Why TLS has failed.
fn not_trusted(tls: &EndpointTls, error: io::Error) -> Failure {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    Failure::Tls(cause.map_or_else(|| error.to_string(), |cause| tls.explain(cause).to_string()))
}

async fn ask(
    probe: &Probe,
    addr: &EndpointAddr,
    scheme: &str,
    http2: bool,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(), Failure> {
    let (answer, question) = io::split(stream);
    // Whatever it is that comes without end: it ends here.
    let stream = io::join(answer.take(ANSWER_BYTES_MAX), question);
    let authority = |host: &Option<String>| host.clone().unwrap_or_else(|| addr.authority());
    match probe {
        Probe::Tcp => Ok(()),
        Probe::Http { target, host, expect, .. } => {
            let authority = authority(host);
            let status = if http2 {
                let request = http2_request(scheme, &authority, target).method(Method::GET).body(());
                let request = request.map_err(protocol)?;
                http2_exchange(stream, request, Bytes::new()).await?.0.status()
            } else {
                http1_status(stream, &authority, target).await?
            };
            let passes = expect.iter().any(|range| range.contains(&status.as_u16()));
            if passes { Ok(()) } else { Err(Failure::Status(status.as_u16())) }
        }
        Probe::Grpc { .. } if !http2 => {
            Err(Failure::Protocol("the endpoint agreed to HTTP/1.1, and gRPC is HTTP/2".to_owned()))
        }
        Probe::Grpc { service, host } => {
            let request = http2_request(scheme, &authority(host), grpc::METHOD)
                .method(Method::POST)
                .header(header::CONTENT_TYPE, GRPC)
                .header(header::TE, "trailers")
                .body(())
                .map_err(protocol)?;
            let (response, _driver) = http2_exchange(stream, request, grpc::question(service).into()).await?;
            grpc_answer(response).await
        }
    }
}

/// Whether HTTP/2 is spoken where nothing says so but the configuration.
fn prior(probe: &Probe) -> bool {
    matches!(probe, Probe::Http { http2: true, .. } | Probe::Grpc { .. })
}

async fn http1_status(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    authority: &str,
    target: &str,
) -> Result<StatusCode, Failure> {
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(FIELDS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(protocol)?;
    // What goes wrong in there is told to whoever waits for the answer.
    let _driver = Driver(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let request = Request::builder()
        .uri(target)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(protocol)?;
    Ok(sender.send_request(request).await.map_err(protocol)?.status())
}

/// One request by HTTP/2 with prior knowledge, and the head of its response. The body comes as long as the driver is there.
async fn http2_exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<()>,
    body: Bytes,
) -> Result<(Response<RecvStream>, Driver), Failure> {
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(HEAD_BYTES_MAX as u32).initial_window_size(WINDOW);
    let (sender, connection) = builder.handshake(stream).await.map_err(protocol)?;
    let driver = Driver(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let mut sender = sender.ready().await.map_err(protocol)?;
    let (response, mut sink) = sender.send_request(request, body.is_empty()).map_err(protocol)?;
    if !body.is_empty() {
        sink.send_data(body, true).map_err(protocol)?;
    }
    Ok((response.await.map_err(protocol)?, driver))
}

fn http2_request(scheme: &str, authority: &str, target: &str) -> hyper::http::request::Builder {
    Request::builder()
        .version(Version::HTTP_2)
        .uri(format!("{scheme}://{authority}{target}"))
        .header(header::USER_AGENT, USER_AGENT)
}

async fn grpc_answer(response: Response<RecvStream>) -> Result<(), Failure> {
    let (head, mut body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(Failure::Status(head.status.as_u16()));
    }
    // A server that has nothing to say but a status says it in the head ("trailers-only").
    if let Some(status) = grpc_status(&head.headers)? {
        return Err(match status {
            GrpcStatus::Ok => Failure::Protocol("no message".to_owned()),
            status => Failure::GrpcStatus(status),
        });
    }
    let kind = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if !kind
        .strip_prefix(GRPC.as_bytes())
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    {
        return Err(Failure::Protocol("its content-type is not application/grpc".to_owned()));
    }
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        message.extend_from_slice(&data.map_err(protocol)?);
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Failure::Protocol(format!("more than {MESSAGE_BYTES_MAX} bytes")));
        }
    }
    let trailers = body.trailers().await.map_err(protocol)?.unwrap_or_default();
    match grpc_status(&trailers)? {
        Some(GrpcStatus::Ok) => {}
        Some(status) => return Err(Failure::GrpcStatus(status)),
        None => return Err(Failure::Protocol("no grpc-status".to_owned())),
    }
    match grpc::answer(&message).map_err(protocol)? {
        Serving::Serving => Ok(()),
        Serving::Not(status) => Err(Failure::NotServing(status)),
    }
}

fn grpc_status(fields: &HeaderMap) -> Result<Option<GrpcStatus>, Failure> {
    let Some(value) = fields.get("grpc-status") else { return Ok(None) };
    let code = value.to_str().ok().and_then(|text| text.parse().ok());
    let code = code.ok_or_else(|| Failure::Protocol("its grpc-status is not a number".to_owned()))?;
    Ok(Some(GrpcStatus::of(code)))
}

fn protocol(error: impl std::error::Error) -> Failure {
    Failure::Protocol(in_full(&error))
}

impl Failure {
    /// As it is counted.
    pub(super) fn outcome(&self) -> CheckOutcome {
        match self {
            Failure::Connect(_) | Failure::Socket(..) => CheckOutcome::Connect,
            Failure::Tls(_) => CheckOutcome::Tls,
            Failure::Timeout(_) => CheckOutcome::Timeout,
            Failure::Status(_) | Failure::GrpcStatus(_) => CheckOutcome::Status,
            Failure::NotServing(_) => CheckOutcome::NotServing,
            Failure::Protocol(_) => CheckOutcome::Protocol,
        }
    }
}

/// Moves the bytes of a connection; dropping it closes the connection.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

const USER_AGENT: &str = concat!("ringward/", env!("CARGO_PKG_VERSION"), " (health check)");
/// A header of version 2 with the command LOCAL and no address
/// (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2).
const PROXY_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
/// What a server that has work may take for a connection from its queue.
const QUEUE_RETRY: Duration = Duration::from_millis(10);
const GRPC: &str = "application/grpc";
/// Of all that an endpoint sends: many times what a head or an answer of gRPC needs, with the settings of HTTP/2.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// hyper's smallest; a status needs one line.
const HEAD_BYTES_MAX: usize = 8192;
const FIELDS_MAX: usize = 64;
/// An answer of gRPC has 7 bytes, and whatever a later version of the protocol adds.
const MESSAGE_BYTES_MAX: usize = 1024;
/// More than the longest answer that is read; what is longer waits with the server.
const WINDOW: u32 = 4096;
