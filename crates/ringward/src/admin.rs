//! The admin listener: `/metrics`, `/healthz` and `/readyz` in plain HTTP, for monitoring.
//!
//! Hides hyper. It authenticates nobody and therefore changes nothing and shows nothing secret. Every
//! connection has a time limit, and their number is limited, so a slow or hostile scraper costs only itself.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ringward_telemetry::Exporter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::health::Health;

/// The admin listener.
pub(crate) struct Admin {
    listener: TcpListener,
    pages: Arc<Pages>,
}

struct Pages {
    exporter: Arc<Exporter>,
    health: Health,
    /// One page at a time: rendering takes a core for milliseconds when there are many routes.
    rendering: Semaphore,
}

impl Admin {
    /// Takes over an open, non-blocking socket. To be called within a runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub(crate) fn new(
        socket: std::net::TcpListener,
        exporter: Arc<Exporter>,
        health: Health,
    ) -> io::Result<Admin> {
        let pages = Arc::new(Pages { exporter, health, rendering: Semaphore::new(1) });
        Ok(Admin { listener: TcpListener::from_std(socket)?, pages })
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self) -> Infallible {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // Further connections wait in the kernel's queue. The semaphore is never closed.
            let permit = connections.clone().acquire_owned().await;
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let pages = self.pages.clone();
                    tokio::spawn(async move {
                        serve_connection(stream, peer, pages).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely. Trying again at once would only burn CPU.
                    tracing::warn!(%error, "the admin listener cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, pages: Arc<Pages>) {
    let service = service_fn(move |request| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(answer(&request, pages).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "admin connection failed"),
        Err(_) => tracing::debug!(%peer, "admin connection took too long"),
    }
}

async fn answer(request: &Request<Incoming>, pages: Arc<Pages>) -> Response<Full<Bytes>> {
    if !matches!(request.uri().path(), METRICS | HEALTHZ | READYZ) {
        return text(
            StatusCode::NOT_FOUND,
            format!("no such page; there are {METRICS}, {HEALTHZ} and {READYZ}\n"),
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let path = request.uri().path().to_owned();
    let Ok(Ok(_turn)) = tokio::time::timeout(RENDER_WAIT_MAX, pages.rendering.acquire()).await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at the same time\n");
    };
    let renderer = pages.clone();
    // On a thread of the blocking pool: the control thread has signals and reloads to look after.
    let page = tokio::task::spawn_blocking(move || match path.as_str() {
        METRICS => metrics(renderer.exporter.render()),
        HEALTHZ => state(renderer.health.healthy()),
        _ => state(renderer.health.ready()),
    });
    page.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an admin page cannot be rendered");
        text(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be rendered\n")
    })
}

fn metrics(page: String) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, page);
    let content_type = HeaderValue::from_static(ringward_telemetry::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn state(state: Result<(), String>) -> Response<Full<Bytes>> {
    match state {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const METRICS: &str = "/metrics";
const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";
/// A handful of scrapers and probes, with room.
const CONNECTIONS_MAX: usize = 64;
/// Also the idle time of a kept connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// No scraper needs longer, and one that reads slowly does not hold its page for ever.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(600);
/// hyper's smallest.
const HEAD_BYTES_MAX: usize = 8192;
const HEADERS_MAX: usize = 64;
const RENDER_WAIT_MAX: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
