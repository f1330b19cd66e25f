//! A target for the program, and the program.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::sync::Arc;

use ringward_testkit::{Authority, Leaf, Pki};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const HOST: &str = "api.example.com";

/// A TLS server that answers every request of one connection with 200 and five bytes.
pub(crate) fn serve_one_connection(pki: &Pki) -> SocketAddr {
    let root = Authority::root("Test Root");
    let server = root.issue(&Leaf::server(HOST));
    pki.write_authorities("ca.pem", &[&root]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(server.chain().to_vec(), server.key())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = BufReader::new(StreamOwned::new(session, tcp));
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|count| count > 0) {
            if line == "\r\n" {
                stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
            }
            line.clear();
        }
    });
    address
}

/// `ringward-load run` with one connection.
pub(crate) fn run(pki: &Pki, target: &str, more: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringward-load"))
        .args(["run", "--server-name", HOST, "--connections", "1", "--target", target, "--ca"])
        .arg(pki.path().join("ca.pem"))
        .args(more.split_whitespace())
        .output()
        .unwrap()
}
