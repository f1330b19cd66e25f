//! A small HTTP client for revocation data: CRLs, OCSP responses, staples.
//!
//! Hides hyper, name resolution, TLS, redirections and every limit. A server may be slow, dead, lying or hostile: each step has a
//! timeout, each answer a size, and each host and each fetcher a number of requests at the same time. Runs on the control
//! thread and never blocks it: names are resolved on the blocking pool.
//!
//! What it never does: connect to an address that was not checked ([`reach`]), follow a redirection to another server, take a
//! proxy from the environment, send cookies or credentials, or decide whether what it fetched is to be believed. That is
//! decided by its signature, so plain http is the norm here. https needs roots that are configured for it: those of the
//! system would let a hundred others speak for the server, and which ones would differ from machine to machine.

pub(crate) mod reach;
mod slots;
pub(crate) mod url;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use self::reach::{Reach, Refusal};
use self::slots::Slots;
use self::url::{Scheme, Url};
use crate::cause::in_full;

/// Fetches one kind of thing. Kinds do not wait for each other: a large CRL from a slow server holds up no OCSP answer.
pub(crate) struct Fetcher {
    limits: FetchLimits,
    slots: Slots,
    /// Absent as long as no roots are configured.
    tls: Mutex<Option<TlsConnector>>,
    /// Name look-ups under way. One that was given up still holds its thread until the resolver returns.
    lookups: Arc<Semaphore>,
}

/// What one request may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchLimits {
    /// Until a TCP connection is there, for each address of the server.
    pub(crate) connect_timeout: Duration,
    /// Longest silence of a connected server, at any point.
    pub(crate) idle_timeout: Duration,
    /// In all: waiting for a slot, redirections and body included.
    pub(crate) total_timeout: Duration,
    /// Requests at the same time.
    pub(crate) requests_max: usize,
    /// Requests at the same time to one server.
    pub(crate) requests_per_server_max: usize,
}

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask<'a> {
    /// GET, and only if it is not what we have.
    Get(&'a Validators),
    /// POST.
    Post {
        /// Type of the body.
        content_type: &'static str,
        /// The body.
        body: &'a Bytes,
    },
}

/// By which a server recognises what we have (RFC 9110 §8.8). Sent back as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    /// `ETag`.
    pub(crate) etag: Option<String>,
    /// `Last-Modified`.
    pub(crate) last_modified: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// 200, with its body.
    Fresh {
        /// Unverified bytes.
        body: Bytes,
        /// For the next time.
        validators: Validators,
    },
    /// 304: what we have is current.
    NotModified,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// We do not want to.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// TLS without anything to check the server by.
    #[error("`{0}` needs a `fetch_ca` in [server]: the CAs of the system are not used")]
    NoRoots(String),
    /// No address.
    #[error("`{host}` cannot be resolved: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No connection to any of its addresses.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// The last one tried.
        address: SocketAddr,
        /// What the kernel said.
        reason: String,
    },
    /// No TLS session.
    #[error("TLS with {authority} failed: {reason}")]
    Tls {
        /// The server.
        authority: String,
        /// Why.
        reason: String,
    },
    /// Something is not HTTP, or ended early.
    #[error("{authority} does not answer as it should: {reason}")]
    Protocol {
        /// The server.
        authority: String,
        /// How.
        reason: String,
    },
    /// Not what we asked for.
    #[error("{authority} answers with status {status}")]
    Status {
        /// The server.
        authority: String,
        /// The status.
        status: u16,
        /// When it wants to be asked again at the earliest.
        retry_after: Option<Duration>,
    },
    /// It sends us elsewhere.
    #[error("redirected to {to}: {reason}")]
    Redirect {
        /// The target as the server has it, cut.
        to: String,
        /// Why we do not go there.
        reason: String,
    },
    /// The body is too long.
    #[error("{authority} sends more than {bytes_max} bytes")]
    TooLarge {
        /// The server.
        authority: String,
        /// The limit.
        bytes_max: u64,
    },
    /// It took too long.
    #[error("no answer within {} ms ({stage})", .after.as_millis())]
    Timeout {
        /// Which limit it was.
        stage: &'static str,
        /// The limit.
        after: Duration,
    },
}

impl Fetcher {
    /// Without TLS until [`Fetcher::verify_https_by`].
    pub(crate) fn new(limits: FetchLimits) -> Fetcher {
        Fetcher {
            slots: Slots::new(limits.requests_max, limits.requests_per_server_max),
            limits,
            tls: Mutex::default(),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }

    /// Verifies servers like this from the next request on; without, https is refused.
    pub(crate) fn verify_https_by(&self, tls: Option<&Arc<ClientConfig>>) {
        let connector = tls.map(|tls| TlsConnector::from(tls.clone()));
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = connector;
    }

    /// Fetches what `url` leads to, at most `bytes_max` bytes of it. Dropping the future ends everything but a name look-up.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn fetch(
        &self,
        url: &Url,
        reach: &Reach,
        ask: Ask<'_>,
        bytes_max: u64,
    ) -> Result<Fetched, FetchError> {
        let after = self.limits.total_timeout;
        let work = async {
            reach.check_url(url)?;
            let _slot = self.slots.take(&url.authority()).await;
            self.fetch_in_slot(url, reach, ask, bytes_max).await
        };
        timeout(after, work).await.unwrap_or(Err(FetchError::Timeout { stage: "in all", after }))
    }

    async fn fetch_in_slot(
        &self,
        url: &Url,
        reach: &Reach,
        ask: Ask<'_>,
        bytes_max: u64,
    ) -> Result<Fetched, FetchError> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTIONS_MAX {
            let response = self.exchange(&url, reach, ask).await?;
            let authority = url.authority();
            match response.head.status {
                StatusCode::OK => {
                    let validators = Validators::of(&response.head.headers);
                    let body = self.read_body(response, &authority, bytes_max).await?;
                    return Ok(Fetched::Fresh { body, validators });
                }
                // To one who did not ask for it, it would be no answer.
                StatusCode::NOT_MODIFIED if ask.is_conditional() => return Ok(Fetched::NotModified),
                status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
                    url = redirect(&url, &response.head, ask)?;
                }
                status => {
                    let retry_after = retry_after(&response.head.headers);
                    return Err(FetchError::Status { authority, status: status.as_u16(), retry_after });
                }
            }
        }
        let reason = format!("more than {REDIRECTIONS_MAX} redirections");
        Err(FetchError::Redirect { to: url.to_string(), reason })
    }

    /// One request on a connection of its own.
    async fn exchange(&self, url: &Url, reach: &Reach, ask: Ask<'_>) -> Result<Answer, FetchError> {
        let tls = match url.scheme() {
            Scheme::Http => None,
            // Before anything is connected to.
            Scheme::Https => {
                let tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Some(tls.ok_or_else(|| FetchError::NoRoots(url.to_string()))?)
            }
        };
        let addresses = self.resolve(url, reach).await?;
        let stream = self.connect(&addresses).await?;
        let Some(tls) = tls else { return self.send(stream, url, ask).await };
        let failed = |reason: String| FetchError::Tls { authority: url.authority(), reason };
        let name = url.host().as_str().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
        let session = self.not_idle("TLS handshake", tls.connect(name, stream)).await?;
        self.send(session.map_err(|error| failed(in_full(&error)))?, url, ask).await
    }

    /// The addresses that may be connected to, at least one.
    async fn resolve(&self, url: &Url, reach: &Reach) -> Result<Vec<SocketAddr>, FetchError> {
        let port = url.port();
        if let Some(address) = url.address() {
            reach.check_address(url, address)?;
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let host = url.host().to_string();
        let failed = |reason: String| FetchError::Resolve { host: host.clone(), reason };
        let permit = self.lookups.clone().acquire_owned().await;
        let name = host.clone();
        // The permit goes with the look-up, not with who waits for it: the resolver cannot be interrupted.
        let lookup = tokio::spawn(async move {
            let found = tokio::net::lookup_host((name, port)).await;
            drop(permit);
            found.map(|found| found.take(ADDRESSES_EXAMINED_MAX).collect::<Vec<_>>())
        });
        let found = lookup.await.map_err(|error| failed(error.to_string()))?;
        let found = found.map_err(|error| failed(error.to_string()))?;
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in found {
            match reach.check_address(url, address.ip()) {
                Ok(()) => allowed.push(address),
                Err(refusal) => refused = Some(refusal),
            }
        }
        allowed.truncate(ADDRESSES_TRIED_MAX);
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(refusal)) => Err(refusal.into()),
            (true, None) => Err(failed("it has no address".to_owned())),
        }
    }

    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
        let after = self.limits.connect_timeout;
        let mut failure = FetchError::Timeout { stage: "connect", after };
        for &address in addresses {
            match timeout(after, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = FetchError::Connect { address, reason: error.to_string() },
                Err(_) => failure = FetchError::Timeout { stage: "connect", after },
            }
        }
        Err(failure)
    }

    /// Sends the request and waits for the head of the answer.
    async fn send<S>(&self, stream: S, url: &Url, ask: Ask<'_>) -> Result<Answer, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |reason: String| FetchError::Protocol { authority: url.authority(), reason };
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_headers(FIELDS_MAX);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| failed(in_full(&error)))?;
        // What goes wrong in there is told to whoever waits for the answer.
        let driver = Driver(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let request = request(url, ask).map_err(|error| failed(error.to_string()))?;
        let response = self.not_idle("head of the answer", sender.send_request(request)).await?;
        let (head, body) = response.map_err(|error| failed(in_full(&error)))?.into_parts();
        Ok(Answer { head, body, _driver: driver })
    }

    async fn read_body(&self, answer: Answer, authority: &str, bytes_max: u64) -> Result<Bytes, FetchError> {
        let Answer { mut body, _driver, .. } = answer;
        let too_large = || FetchError::TooLarge { authority: authority.to_owned(), bytes_max };
        let announced = body.size_hint();
        if announced.lower() > bytes_max {
            return Err(too_large());
        }
        // What is announced is not yet there, so no more than a little of it is allocated for.
        let capacity = usize::try_from(announced.lower()).unwrap_or(usize::MAX).min(CAPACITY_MAX);
        let mut content = Vec::with_capacity(capacity);
        while let Some(frame) = self.not_idle("body", body.frame()).await? {
            let frame = frame.map_err(|error| FetchError::Protocol {
                authority: authority.to_owned(),
                reason: in_full(&error),
            })?;
            // Trailers say nothing that we ask for.
            let Ok(bytes) = frame.into_data() else { continue };
            if content.len() as u64 + bytes.len() as u64 > bytes_max {
                return Err(too_large());
            }
            content.extend_from_slice(&bytes);
        }
        Ok(content.into())
    }

    async fn not_idle<T>(&self, stage: &'static str, step: impl Future<Output = T>) -> Result<T, FetchError> {
        let after = self.limits.idle_timeout;
        timeout(after, step).await.map_err(|_| FetchError::Timeout { stage, after })
    }
}

impl FetchError {
    /// When the server wants to be asked again at the earliest, if it said so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            FetchError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the server understood the request and does not take this kind of it, so that another kind may do.
    pub(crate) fn is_dislike_of_method(&self) -> bool {
        matches!(self, FetchError::Status { status: 400 | 403 | 404 | 405 | 414 | 501, .. })
    }
}

impl Ask<'_> {
    fn is_conditional(self) -> bool {
        matches!(self, Ask::Get(validators) if *validators != Validators::default())
    }
}

impl Validators {
    fn of(headers: &HeaderMap) -> Validators {
        let text = |name| {
            let value = headers.get(name)?.to_str().ok()?;
            (value.len() <= VALIDATOR_BYTES_MAX).then(|| value.to_owned())
        };
        Validators { etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) }
    }
}

/// The head of an answer and the connection that its body comes from.
struct Answer {
    head: hyper::http::response::Parts,
    body: Incoming,
    _driver: Driver,
}

/// Moves the bytes of a connection; dropping it closes the connection.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How servers are verified by these roots and no others.
///
/// # Errors
/// If rustls does not accept its own defaults.
pub(crate) fn tls(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn request(url: &Url, ask: Ask<'_>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let builder = Request::builder()
        .uri(url.target())
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close");
    match ask {
        Ask::Get(validators) => {
            let mut request = builder.method(Method::GET).body(Full::default())?;
            let mut set = |name: HeaderName, value: &Option<String>| {
                let value = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok());
                value.map(|value| request.headers_mut().insert(name, value))
            };
            set(header::IF_NONE_MATCH, &validators.etag);
            set(header::IF_MODIFIED_SINCE, &validators.last_modified);
            Ok(request)
        }
        Ask::Post { content_type, body } => builder
            .method(Method::POST)
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(body.clone())),
    }
}

/// Where to go on: on the same server, or on the same host by TLS instead of in the clear.
fn redirect(from: &Url, head: &hyper::http::response::Parts, ask: Ask<'_>) -> Result<Url, FetchError> {
    let location = head.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let location = location.unwrap_or_default();
    let to: String = location.chars().take(LOCATION_CHARS_SHOWN).collect();
    let refuse = |reason: &str| FetchError::Redirect { to: to.clone(), reason: reason.to_owned() };
    let next = from.redirected(location).map_err(|error| refuse(&error.to_string()))?;
    let is_same = (next.scheme(), next.port()) == (from.scheme(), from.port());
    let to_tls = |url: &Url, scheme| url.scheme() == scheme && url.port() == scheme.default_port();
    let is_upgrade = to_tls(from, Scheme::Http) && to_tls(&next, Scheme::Https);
    if next.host() != from.host() || !(is_same || is_upgrade) {
        return Err(refuse("that is another server; configure its URL if it is the right one"));
    }
    // RFC 9110 §15.4: after the others a POST may become a GET, and its body be lost.
    let keeps_method = matches!(head.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    if matches!(ask, Ask::Post { .. }) && !keeps_method {
        return Err(refuse("a POST is not sent again by this status"));
    }
    Ok(next)
}

/// Seconds only: who writes dates there relies on our clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

const REDIRECTIONS_MAX: usize = 2;
const USER_AGENT: &str = concat!("ringward/", env!("CARGO_PKG_VERSION"));
/// Threads of the blocking pool that a dead name server may hold.
const LOOKUPS_MAX: usize = 8;
/// Of what a name resolves to.
const ADDRESSES_EXAMINED_MAX: usize = 32;
/// A server with more addresses that are all dead is dead.
const ADDRESSES_TRIED_MAX: usize = 4;
/// hyper's smallest.
const HEAD_BYTES_MAX: usize = 8192;
const FIELDS_MAX: usize = 64;
/// Sent back with every request, so not longer than a server would want.
const VALIDATOR_BYTES_MAX: usize = 256;
/// More is allocated as it comes.
const CAPACITY_MAX: usize = 64 * 1024;
/// Whoever wants us to stay away for longer is asked again nevertheless.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
const LOCATION_CHARS_SHOWN: usize = 200;

#[cfg(test)]
mod tests;
