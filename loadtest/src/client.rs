//! A client: opens connections and makes one exchange after the other on each.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::answer::{self, Answer};
use crate::args::{Mode, Plan};
use crate::failure::{Failure, FailureKind};
use crate::http2::{Http2, Message};

/// What all clients of a run send.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    head: Vec<u8>,
    /// Where a path of a request's own would go on in `head`.
    path_end: usize,
    method: Method,
    /// The same for HTTP/2, with scheme and authority.
    uri: String,
    uri_path_end: usize,
    /// How many of a hundred have one.
    fresh_paths: u64,
    body_bytes: u64,
}

/// A connection whose handshake is complete on our side.
pub(crate) struct Connection {
    wire: Wire,
    /// Counts the connections of a run.
    number: u64,
    /// What was agreed on, for people: version, suite, group, and the protocol if it is not HTTP/1.1.
    pub(crate) negotiated: String,
    /// How long TCP took.
    pub(crate) connect_time: Duration,
    /// How long TCP and TLS took together.
    pub(crate) handshake_time: Duration,
    /// How long the first byte of the last answer took, from before the first one of its request was sent.
    pub(crate) first_byte_time: Option<Duration>,
    /// The target took up an earlier session.
    pub(crate) resumed: bool,
    /// Its share in what counts the open ones.
    pub(crate) open: Option<Rc<()>>,
}

/// What exchanges are made on.
enum Wire {
    Http1(Box<TlsStream<TcpStream>>),
    Http2(Http2),
}

impl Request {
    /// The request of this run.
    pub(crate) fn of(plan: &Plan) -> Request {
        let Plan { path, authority, .. } = plan;
        let (method, length) = match plan.mode {
            Mode::Upload => ("POST", format!("content-length: {}\r\n", plan.body_bytes)),
            _ => ("GET", String::new()),
        };
        let close = if plan.mode == Mode::Handshake { "connection: close\r\n" } else { "" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: {USER_AGENT}\r\naccept: */*\r\n{length}{close}\r\n"
        );
        let path_end = method.len() + 1 + path.find('?').unwrap_or(path.len());
        let uri = format!("https://{authority}{path}");
        let uri_path_end = uri.find('?').unwrap_or(uri.len());
        Request {
            head: head.into_bytes(),
            path_end,
            method: if plan.mode == Mode::Upload { Method::POST } else { Method::GET },
            uri,
            uri_path_end,
            fresh_paths: plan.fresh_paths.into(),
            body_bytes: plan.body_bytes,
        }
    }

    /// What the run's request of this number has of its own below the path, if it has something. Those that have are spread evenly.
    fn own(&self, number: u64) -> Option<String> {
        let fresh_before = |number| number * self.fresh_paths / 100;
        (fresh_before(number) < fresh_before(number + 1)).then(|| format!("/{}-{number}", std::process::id()))
    }

    /// The URI of the run's request of this number.
    fn uri(&self, number: u64) -> Cow<'_, str> {
        match self.own(number) {
            None => Cow::Borrowed(&self.uri),
            Some(own) => {
                let (before, after) = self.uri.split_at(self.uri_path_end);
                Cow::Owned([before, &own, after].concat())
            }
        }
    }

    /// The head of the run's request of this number.
    fn head(&self, number: u64) -> Cow<'_, [u8]> {
        match self.own(number) {
            None => Cow::Borrowed(&self.head),
            Some(own) => {
                let (before, after) = self.head.split_at(self.path_end);
                Cow::Owned([before, own.as_bytes(), after].concat())
            }
        }
    }

    /// Whether it may be sent again if nobody knows whether it arrived (RFC 9110 §9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        self.method == Method::GET
    }

    /// Bytes of the body that is sent along.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}

impl Connection {
    /// Connects and shakes hands by the rules of `tls`.
    pub(crate) async fn open(
        plan: &Plan,
        tls: &Arc<ClientConfig>,
        number: u64,
    ) -> Result<Connection, Failure> {
        let started = Instant::now();
        let connect_time = Cell::new(Duration::ZERO);
        let opening = async {
            let tcp = TcpStream::connect(plan.target)
                .await
                .map_err(|error| Failure::new(FailureKind::Connect, error.to_string()))?;
            // A head and its body's beginning are to go out as they are written.
            tcp.set_nodelay(true).map_err(|error| Failure::new(FailureKind::Connect, error.to_string()))?;
            connect_time.set(started.elapsed());
            let connector = TlsConnector::from(tls.clone());
            let handshake = connector.connect(plan.server_name.clone(), tcp).await;
            handshake.map_err(|error| Failure::new(FailureKind::Tls, error.to_string()))
        };
        let stream = bounded(plan.timeout, "the handshake", opening).await?;
        let handshake_time = started.elapsed();
        let session = stream.get_ref().1;
        let (resumed, negotiated) =
            (session.handshake_kind() == Some(HandshakeKind::Resumed), negotiated(session));
        let wire = match (plan.http2, session.alpn_protocol()) {
            (false, _) => Wire::Http1(Box::new(stream)),
            (true, Some(b"h2")) => {
                Wire::Http2(bounded(plan.timeout, "the handshake", Http2::begin(stream)).await?)
            }
            (true, _) => return Err(Failure::malformed("the target does not agree to HTTP/2")),
        };
        let connect_time = connect_time.get();
        Ok(Connection {
            wire,
            number,
            negotiated,
            connect_time,
            handshake_time,
            first_byte_time: None,
            resumed,
            open: None,
        })
    }

    /// Whether this is `other`, shared.
    pub(crate) fn is(&self, other: &Connection) -> bool {
        self.number == other.number
    }

    /// The same connection for another request at the same time, if that can be.
    pub(crate) fn share(&self) -> Option<Connection> {
        let Wire::Http2(http2) = &self.wire else { return None };
        Some(Connection {
            wire: Wire::Http2(http2.clone()),
            negotiated: String::new(),
            first_byte_time: None,
            open: None,
            ..*self
        })
    }

    /// Sends the request of this number and reads the whole answer. After an error, or unless the answer says so, the connection is of no
    /// more use.
    pub(crate) async fn exchange(
        &mut self,
        plan: &Plan,
        request: &Request,
        number: u64,
        buffer: &mut [u8],
    ) -> Result<Answer, Failure> {
        let started = Instant::now();
        let first_byte = &mut self.first_byte_time;
        *first_byte = None;
        let begins = || *first_byte = Some(started.elapsed());
        let stream = match &mut self.wire {
            Wire::Http1(stream) => stream,
            Wire::Http2(http2) => {
                let uri = request.uri(number);
                let (method, body_bytes) = (request.method.clone(), request.body_bytes);
                let message = Message { method, uri: &uri, body_bytes };
                return bounded(plan.timeout, "the exchange", http2.exchange(&message, begins)).await;
            }
        };
        let exchange = async {
            let sent = send(stream, request, number).await;
            let answer = answer::read(stream, buffer, begins).await;
            match (sent, answer) {
                (Ok(()), answer) => answer,
                // Who refuses a body may say so and close before all of it was sent (RFC 9112 §9.6).
                (Err(_), Ok(answer)) => Ok(Answer { keep_alive: false, ..answer }),
                // What the stream says first is the reason; what the reader saw is often only its end.
                (Err(_), Err(failure)) if failure.kind == FailureKind::Tls => Err(failure),
                (Err(error), Err(failure)) => Err(Failure { detail: format!("sending: {error}"), ..failure }),
            }
        };
        bounded(plan.timeout, "the exchange", exchange).await
    }

    /// Waits until the target has closed too, so that its work is done before the next connection begins.
    pub(crate) async fn wait_for_close(self, plan: &Plan, buffer: &mut [u8]) {
        let Wire::Http1(mut stream) = self.wire else { return };
        // How it ends is of no interest any more: the answer was whole.
        let _ = timeout(plan.timeout, async { while matches!(stream.read(buffer).await, Ok(1..)) {} }).await;
    }
}

async fn send(stream: &mut TlsStream<TcpStream>, request: &Request, number: u64) -> std::io::Result<()> {
    stream.write_all(&request.head(number)).await?;
    let mut left = request.body_bytes;
    while left > 0 {
        let piece = left.min(BODY.len() as u64);
        stream.write_all(&BODY[..piece as usize]).await?;
        left -= piece;
    }
    stream.flush().await
}

fn negotiated(session: &ClientConnection) -> String {
    let version = session.protocol_version().map(|version| format!("{version:?}"));
    let suite = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    let group = session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
    let http2 = (session.alpn_protocol() == Some(b"h2")).then(|| "h2".to_owned());
    [version, suite, group, http2].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

async fn bounded<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = || Failure::new(FailureKind::Timeout, format!("{what} took more than {limit:?}"));
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

pub(crate) const USER_AGENT: &str = concat!("ringward-load/", env!("CARGO_PKG_VERSION"));
/// What bodies are made of.
static BODY: [u8; 64 << 10] = [b'x'; 64 << 10];
