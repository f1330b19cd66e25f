//! The upstream of the demo: says what reached it.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use ringward_identity::{IdentityOptions, PeerIdentity};
use tokio::net::TcpListener;

/// Starts it on a free port of the loopback interface, on a thread that lives as long as the process.
///
/// # Errors
/// If there is no port or no thread.
pub(super) fn start() -> io::Result<SocketAddr> {
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    thread::Builder::new().name("demo-upstream".to_owned()).spawn(move || {
        runtime.block_on(async {
            if let Ok(listener) = TcpListener::from_std(socket) {
                serve(listener).await;
            }
        });
    })?;
    Ok(address)
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // It ends when the proxy closes it.
        tokio::spawn(connection);
    }
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let client =
        client(request.headers()).unwrap_or_else(|| "nobody that a certificate was checked of".to_owned());
    let page = format!("upstream: {} {} for {client}\n", request.method(), request.uri());
    Response::new(Full::new(page.into()))
}

/// Who the proxy says it is, by RFC 9440.
fn client(headers: &HeaderMap) -> Option<String> {
    let field = headers.get("client-cert")?.to_str().ok()?;
    let der = STANDARD.decode(field.strip_prefix(':')?.strip_suffix(':')?).ok()?;
    // The proxy has verified the chain, and nobody else can reach this port of the demo by way of it.
    let peer = PeerIdentity::from_verified_chain(&[der], &IdentityOptions::default()).ok()?;
    Some(peer.subject().to_owned())
}
