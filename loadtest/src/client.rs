//! A client: opens connections and makes one exchange after the other on each.

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

use crate::answer::{self, Answer, CallOutcome, Wanted};
use crate::clients::Host;
use crate::failure::{Failure, FailureKind};
use crate::grpc::{self, Call, CallAnswer};
use crate::http2::Http2;
use crate::plan::Plan;
use crate::request::{Message, What};
use crate::websocket::{self, WebSocketAnswer, WebSocketPlan};

/// A connection whose handshake is complete on our side.
pub(crate) struct Connection {
    wire: Wire,
    /// Counts the connections of a run.
    number: u64,
    host: Rc<Host>,
    /// What was agreed on, for people: version, suite, group, and the protocol if it is not HTTP/1.1.
    pub(crate) negotiated: String,
    /// How long TCP took.
    pub(crate) connect_time: Duration,
    /// How long TCP and TLS took together.
    pub(crate) handshake_time: Duration,
    /// How long the first byte of the last answer took, from before the first one of its request was sent.
    pub(crate) first_byte_time: Option<Duration>,
    /// How long each message of the last WebSocket took to come back.
    pub(crate) round_trips: Vec<Duration>,
    /// The target took up an earlier session.
    pub(crate) resumed: bool,
    /// Whether it is counted as opened; the same for all who share it.
    pub(crate) is_counted: Rc<Cell<bool>>,
    /// Its share in what counts the open ones.
    pub(crate) open: Option<Rc<()>>,
}

/// What exchanges are made on.
enum Wire {
    Http1(Box<TlsStream<TcpStream>>),
    Http2(Http2),
}

impl Connection {
    /// Connects and shakes hands by the rules of `tls`, for the names of this number.
    pub(crate) async fn open(
        plan: &Plan,
        tls: &Arc<ClientConfig>,
        number: u64,
    ) -> Result<Connection, Failure> {
        let host = plan.hosts[number as usize % plan.hosts.len()].clone();
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
            let handshake = connector.connect(host.server_name.clone(), tcp).await;
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
            host,
            negotiated,
            connect_time,
            handshake_time,
            first_byte_time: None,
            round_trips: Vec::new(),
            resumed,
            is_counted: Rc::new(Cell::new(true)),
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
            host: self.host.clone(),
            first_byte_time: None,
            round_trips: Vec::new(),
            is_counted: self.is_counted.clone(),
            open: None,
            ..*self
        })
    }

    /// Makes one exchange, and reads the whole answer. After an error, or unless the answer says so, the connection is of no more use.
    /// `buffer` is only room.
    pub(crate) async fn exchange(
        &mut self,
        limit: Duration,
        message: &Message<'_>,
        buffer: &mut [u8],
    ) -> Result<Answer, Failure> {
        self.first_byte_time = None;
        self.round_trips.clear();
        let exchange = async {
            match (message.kind.what, &mut self.wire) {
                (What::Request, Wire::Http1(_)) => self.http1_exchange(message, buffer).await,
                (What::Request, Wire::Http2(http2)) => {
                    let begins = begins(&mut self.first_byte_time);
                    http2.exchange(message, &self.host.authority, begins).await
                }
                (What::Call { .. }, _) => self.call(message).await,
                (What::WebSocket { .. }, _) => self.websocket(message).await,
            }
        };
        bounded(limit, "the exchange", exchange).await
    }

    async fn http1_exchange(&mut self, message: &Message<'_>, buffer: &mut [u8]) -> Result<Answer, Failure> {
        let Wire::Http1(stream) = &mut self.wire else { return Err(Failure::malformed("no HTTP/1.1")) };
        let wanted = Wanted {
            head_only: message.kind.method == Method::HEAD,
            hashed: message.kind.expected.sha256.is_some(),
        };
        let begins = begins(&mut self.first_byte_time);
        let sent = send(stream, message, &self.host.authority).await;
        let answer = answer::read(stream, buffer, wanted, begins).await;
        match (sent, answer) {
            (Ok(()), answer) => answer,
            // Who refuses a body may say so and close before all of it was sent (RFC 9112 §9.6).
            (Err(_), Ok(answer)) => Ok(Answer { keep_alive: false, ..answer }),
            // What the stream says first is the reason; what the reader saw is often only its end.
            (Err(_), Err(failure)) if failure.kind == FailureKind::Tls => Err(failure),
            (Err(error), Err(failure)) => Err(failure.after_sending(&error)),
        }
    }

    async fn call(&mut self, message: &Message<'_>) -> Result<Answer, Failure> {
        let (What::Call { kind, messages, deadline, .. }, Wire::Http2(http2)) =
            (message.kind.what, &self.wire)
        else {
            return Err(Failure::malformed("gRPC needs HTTP/2"));
        };
        let call = Call {
            kind,
            authority: &self.host.authority,
            path: &message.path,
            messages,
            message_bytes: u32::try_from(message.body_bytes).unwrap_or(u32::MAX),
            deadline,
        };
        let CallAnswer { http_status: status, grpc_status, messages_received, bytes_received, .. } =
            grpc::call(http2.requests(), &call, begins(&mut self.first_byte_time)).await?;
        let call = Some(CallOutcome { status: grpc_status, messages: messages_received });
        Ok(Answer { status, body_bytes: bytes_received, sha256: None, call, keep_alive: true })
    }

    async fn websocket(&mut self, message: &Message<'_>) -> Result<Answer, Failure> {
        let What::WebSocket { messages, between } = message.kind.what else {
            return Err(Failure::malformed("no WebSocket"));
        };
        let plan = WebSocketPlan {
            authority: &self.host.authority,
            path: &message.path,
            messages,
            message_bytes: usize::try_from(message.body_bytes).unwrap_or(usize::MAX),
            between,
        };
        let begins = begins(&mut self.first_byte_time);
        let round_trip = |time| self.round_trips.push(time);
        let (answer, keep_alive) = match &mut self.wire {
            // The connection has become the WebSocket's.
            Wire::Http1(stream) => (websocket::over_http1(stream, &plan, begins, round_trip).await?, false),
            Wire::Http2(http2) => {
                http2.settled().await?;
                (websocket::over_http2(http2.requests(), &plan, begins, round_trip).await?, true)
            }
        };
        let WebSocketAnswer { http_status: status, bytes_received: body_bytes, .. } = answer;
        Ok(Answer { status, body_bytes, sha256: None, call: None, keep_alive })
    }

    /// Waits until the target has closed too, so that its work is done before the next connection begins.
    pub(crate) async fn wait_for_close(self, limit: Duration, buffer: &mut [u8]) {
        let Wire::Http1(mut stream) = self.wire else { return };
        // How it ends is of no interest any more: the answer was whole.
        let _ = timeout(limit, async { while matches!(stream.read(buffer).await, Ok(1..)) {} }).await;
    }
}

/// Notes how long it takes from now until it is called.
fn begins(first_byte_time: &mut Option<Duration>) -> impl FnOnce() {
    let started = Instant::now();
    move || *first_byte_time = Some(started.elapsed())
}

async fn send(
    stream: &mut TlsStream<TcpStream>,
    message: &Message<'_>,
    authority: &str,
) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    message.write_head(authority, &mut head);
    stream.write_all(&head).await?;
    let mut left = message.body_bytes;
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

/// Room for most heads.
const HEAD_BYTES: usize = 512;
/// What bodies are made of.
static BODY: [u8; 64 << 10] = [b'x'; 64 << 10];
