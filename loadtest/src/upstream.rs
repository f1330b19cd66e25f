//! `ringward-load upstream`: a server for the other side of the gateway that is loaded. It answers in clear text, HTTP/1.1 and HTTP/2
//! on one port, and costs little, since it shares the machine with what is measured.
//!
//! What a path asks for is in `resource`, how it is answered in `http1` and `http2`, which share `grpc` and `websocket`.
//! Connections may be idle for as long as the gateway keeps them: it is the gateway's clients that are measured, not its pool.

mod grpc;
mod http1;
mod http2;
mod preface;
mod resource;
mod websocket;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::thread;
use std::time::Duration;

use aws_lc_rs::digest;
use clap::Args;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_local;
use tokio::time::sleep;

/// Arguments of `ringward-load upstream`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpstreamArguments {
    /// Where to listen, in clear text. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// How many threads serve.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

/// Why the upstream does not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("--listen {address}: {reason}; give an address of this machine and a port that is free")]
    Listen { address: SocketAddr, reason: io::Error },
    #[error("the server cannot be started: {0}")]
    Start(io::Error),
}

/// Serves until the process is asked to end by SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot begin.
pub(crate) fn run(arguments: &UpstreamArguments) -> Result<(), UpstreamError> {
    let listener = StdTcpListener::bind(arguments.listen)
        .map_err(|reason| UpstreamError::Listen { address: arguments.listen, reason })?;
    let address = listener.local_addr().map_err(UpstreamError::Start)?;
    listener.set_nonblocking(true).map_err(UpstreamError::Start)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(UpstreamError::Start)?;
    runtime.block_on(async {
        // Caught from here on, so that who reads that it listens may end it.
        let mut terminate = signal(SignalKind::terminate()).map_err(UpstreamError::Start)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(UpstreamError::Start)?;
        for number in 0..arguments.threads {
            let listener = listener.try_clone().map_err(UpstreamError::Start)?;
            let name = format!("upstream-{number}");
            let started = thread::Builder::new().name(name).spawn(move || serve_on_thread(listener));
            // They end with the process.
            drop(started.map_err(UpstreamError::Start)?);
        }
        // Nobody is left to be told if standard output is closed.
        let _ = writeln!(io::stdout(), "listening on {address}");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

/// Serves what this thread accepts, with tasks that share nothing with other threads.
fn serve_on_thread(listener: StdTcpListener) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let served = runtime.and_then(|runtime| {
        runtime.block_on(async {
            accept(TcpListener::from_std(listener)?).await;
            Ok(())
        })
    });
    if let Err(error) = served {
        // Fewer threads than were asked for would be measured as if they were all there.
        let _ = writeln!(io::stderr(), "ringward-load: a thread of the server cannot be started: {error}");
        std::process::exit(2);
    }
}

/// Accepts connections and serves each in a task of its own.
pub(crate) async fn accept(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers go out as they are written; if that cannot be set, they are only later.
                let _ = stream.set_nodelay(true);
                spawn_local(serve(stream));
            }
            // No file is free, or the client has gone.
            Err(_) => sleep(PAUSE_AFTER_FAILURE).await,
        }
    }
}

/// Serves one connection until it ends. How it ends is the client's to tell.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(mut stream: S) {
    let mut input = vec![0; INPUT_BYTES];
    match preface::read(&mut stream, &mut input).await {
        Ok(Some((preface::Protocol::Http1, filled))) => {
            let _ = http1::serve(stream, input, filled).await;
        }
        Ok(Some((preface::Protocol::Http2, filled))) => {
            input.truncate(filled);
            http2::serve(preface::Rewound::new(stream, input)).await;
        }
        Ok(None) | Err(_) => {}
    }
}

/// What a body was, as JSON. The same for HTTP/1.1 and HTTP/2.
fn body_report(length: u64, digest: &digest::Digest) -> String {
    let mut text = format!("{{\"bytes\":{length},\"sha256\":\"");
    for byte in digest.as_ref() {
        text.push(char::from(HEX_DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(HEX_DIGITS[usize::from(byte & 15)]));
    }
    text.push_str("\"}\n");
    text
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";
/// What bodies are made of; so large that a large one takes few writes.
static BODY: [u8; 256 << 10] = [b'x'; 256 << 10];
/// For each connection; enough for the head of most requests, and it grows.
const INPUT_BYTES: usize = 4 << 10;
/// For the other side to end what we have ended.
const LINGER: Duration = Duration::from_secs(1);
/// Whatever it is that keeps us from accepting is not to be asked for all the time.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
