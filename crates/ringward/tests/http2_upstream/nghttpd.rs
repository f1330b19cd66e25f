//! A server that we did not write, behind both kinds of clients.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use ringward_testkit::{DEADLINE, Pattern, Process, eventually, free_port, kind, sha256_hex};

use super::caller::{BOTH, Caller, Streams};
use super::support::program;

/// nghttpd with the files of a directory. Another may take its port before it does.
fn start(files: &Path, options: &[&str]) -> (Process, SocketAddr) {
    for _ in 0..5 {
        let port = free_port();
        let mut nghttpd = program("nghttpd", "nghttp2-server");
        nghttpd.args(["--no-tls", "--address=127.0.0.1", "--htdocs"]).arg(files);
        let mut process = Process::start(nghttpd.args(options).arg(port.to_string()));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually(DEADLINE, "nghttpd listens or ends", || {
            !process.is_running() || TcpStream::connect(address).is_ok()
        });
        if process.is_running() {
            return (process, address);
        }
    }
    panic!("nghttpd finds no port");
}

#[test]
fn it_serves_clients_of_both_protocols() {
    let files = tempfile::tempdir().unwrap();
    let body = Pattern::new(3_000_000);
    std::fs::write(files.path().join("file"), body.to_vec()).unwrap();
    std::fs::write(files.path().join("small"), Pattern::new(50_000).to_vec()).unwrap();
    std::fs::write(files.path().join("empty"), "").unwrap();
    // Padded frames, a few streams at a time, trailers, and bodies that come back.
    let options =
        ["--padding=100", "--max-concurrent-streams=8", "--trailer=x-checksum: ok", "--echo-upload"];
    let (_process, address) = start(files.path(), &options);
    let gateway = super::builder(address, "").start();
    for client in BOTH {
        let mut caller = Caller::new(&gateway, client);
        let answer = caller.get("/file");
        assert_eq!((answer.status, sha256_hex(&answer.body)), (200, body.sha256_hex()), "{client:?}");
        assert_eq!((caller.get("/empty").status, caller.get("/nothing").status), (200, 404));
        let head = caller.request("HEAD", "/file", &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0));
        for with_length in [true, false] {
            let answer = caller.upload("/echo", body, with_length);
            assert_eq!((answer.status, sha256_hex(&answer.body)), (200, body.sha256_hex()), "{client:?}");
        }
        assert_eq!(caller.request("POST", "/echo", &[], b"hello").body, b"hello");
    }
    let mut streams = Streams::new(&gateway, &[]);
    streams.http2.send(kind::WINDOW_UPDATE, 0, 0, &(40_u32 * 50_000).to_be_bytes()).unwrap();
    let begun: Vec<u32> = (0..40).map(|_| streams.begin("GET", "/small", &[], true)).collect();
    for stream in begun {
        assert_eq!(streams.finish(stream).body, Pattern::new(50_000).to_vec());
    }
    // 40 streams, 8 on each.
    let opened = gateway.metric("ringward_upstream_connections_opened_total", &[]);
    assert!(opened <= 6.0, "{opened} connections");
}
