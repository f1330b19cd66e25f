//! Upstreams that note what reaches them, one for HTTP/1.1 and one for HTTP/2.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Both of them. They live as long as the runtime.
pub(super) struct Upstreams {
    pub(super) http1: SocketAddr,
    pub(super) http2: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A request that has arrived.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Names and values, with trailers at the end: an upstream may take one for the other.
    pub(super) fields: Vec<(String, String)>,
}

impl Seen {
    /// The values of a name, which is in lower case.
    pub(super) fn values<'s>(&'s self, name: &str) -> Vec<&'s str> {
        let named = self.fields.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    fn add(&mut self, fields: &HeaderMap) {
        let fields = fields.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        self.fields.extend(fields);
    }
}

impl Upstreams {
    pub(super) async fn start() -> io::Result<Upstreams> {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (one, two) = (bind().await?, bind().await?);
        let (http1, http2) = (one.local_addr()?, two.local_addr()?);
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let noted = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = one.accept().await {
                let noted = noted.clone();
                let service = service_fn(move |request| note(request, noted.clone()));
                let connection = hyper::server::conn::http1::Builder::new();
                // It ends when the proxy closes it.
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        let noted = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = two.accept().await {
                tokio::spawn(serve_http2(stream, noted.clone()));
            }
        });
        Ok(Upstreams { http1, http2, seen })
    }

    /// What has arrived since this was last asked.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn note(
    request: Request<Incoming>,
    noted: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut seen = Seen::default();
    seen.add(request.headers());
    if let Ok(body) = request.into_body().collect().await
        && let Some(trailers) = body.trailers()
    {
        seen.add(trailers);
    }
    noted.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    Ok(Response::new(Empty::new()))
}

async fn serve_http2(stream: TcpStream, noted: Arc<Mutex<Vec<Seen>>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let noted = noted.clone();
        tokio::spawn(async move {
            let mut seen = Seen::default();
            seen.add(request.headers());
            let mut body = request.into_body();
            while let Some(Ok(part)) = body.data().await {
                let _ = body.flow_control().release_capacity(part.len());
            }
            if let Ok(Some(trailers)) = body.trailers().await {
                seen.add(&trailers);
            }
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
            let _ = respond.send_response(Response::new(()), true);
        });
    }
}
