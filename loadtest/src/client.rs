//! A client: opens connections and makes one exchange after the other on each.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::answer::{self, Answer};
use crate::args::{Mode, Plan};
use crate::failure::{Failure, FailureKind};

/// What all clients of a run send.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    head: Vec<u8>,
    /// Where a path of a request's own would go on in `head`.
    path_end: usize,
    /// How many of a hundred have one.
    fresh_paths: u64,
    body_bytes: u64,
}

/// A connection whose handshake is complete on our side.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    /// How long TCP took.
    pub(crate) connect_time: Duration,
    /// How long TCP and TLS took together.
    pub(crate) handshake_time: Duration,
    /// How long the first byte of the last answer took, from before the first one of its request was sent.
    pub(crate) first_byte_time: Option<Duration>,
    /// The target took up an earlier session.
    pub(crate) resumed: bool,
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
        let fresh_paths = plan.fresh_paths.into();
        Request { head: head.into_bytes(), path_end, fresh_paths, body_bytes: plan.body_bytes }
    }

    /// The head of the run's request of this number. Those with a path of their own are spread evenly.
    fn head(&self, number: u64) -> Cow<'_, [u8]> {
        let fresh_before = |number| number * self.fresh_paths / 100;
        if fresh_before(number) == fresh_before(number + 1) {
            return Cow::Borrowed(&self.head);
        }
        let (before, after) = self.head.split_at(self.path_end);
        let own = format!("/{}-{number}", std::process::id());
        Cow::Owned([before, own.as_bytes(), after].concat())
    }

    /// Whether it may be sent again if nobody knows whether it arrived (RFC 9110 §9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        self.head.starts_with(b"GET ")
    }

    /// Bytes of the body that is sent along.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}

impl Connection {
    /// Connects and shakes hands by the rules of `tls`.
    pub(crate) async fn open(plan: &Plan, tls: &Arc<ClientConfig>) -> Result<Connection, Failure> {
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
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok(Connection {
            stream,
            connect_time: connect_time.get(),
            handshake_time: started.elapsed(),
            first_byte_time: None,
            resumed,
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
        let exchange = async {
            let sent = self.send(request, number).await;
            let first_byte = &mut self.first_byte_time;
            *first_byte = None;
            let answer =
                answer::read(&mut self.stream, buffer, || *first_byte = Some(started.elapsed())).await;
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
    pub(crate) async fn wait_for_close(mut self, plan: &Plan, buffer: &mut [u8]) {
        // How it ends is of no interest any more: the answer was whole.
        let _ =
            timeout(plan.timeout, async { while matches!(self.stream.read(buffer).await, Ok(1..)) {} }).await;
    }

    /// What was agreed on, for people: version, suite, group.
    pub(crate) fn negotiated(&self) -> String {
        let session: &ClientConnection = self.stream.get_ref().1;
        let version = session.protocol_version().map(|version| format!("{version:?}"));
        let suite = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        let group = session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
        [version, suite, group].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    async fn send(&mut self, request: &Request, number: u64) -> std::io::Result<()> {
        self.stream.write_all(&request.head(number)).await?;
        let mut left = request.body_bytes;
        while left > 0 {
            let piece = left.min(BODY.len() as u64);
            self.stream.write_all(&BODY[..piece as usize]).await?;
            left -= piece;
        }
        self.stream.flush().await
    }
}

async fn bounded<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = || Failure::new(FailureKind::Timeout, format!("{what} took more than {limit:?}"));
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

const USER_AGENT: &str = concat!("ringward-load/", env!("CARGO_PKG_VERSION"));
/// What bodies are made of.
static BODY: [u8; 64 << 10] = [b'x'; 64 << 10];
