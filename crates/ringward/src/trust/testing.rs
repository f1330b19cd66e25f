//! For the tests of this module: an HTTP server that answers well or badly as it is told and remembers what it was asked,
//! and verified paths as workers report them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringward_config::{Config, Location};
use ringward_testkit::{Authority, Issued};
use ringward_tls::{
    AnchorRef, Credential, CredentialOptions, CredentialSource, IssuerCertificate, IssuerId, PathCertificate,
    PeerPath, Serial,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) target: String,
    /// Request line and fields.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

/// What is sent back, step by step; then the connection is closed.
pub(super) enum Step {
    Send(Vec<u8>),
    /// For as long as the client stays.
    Silence,
    /// A byte every few milliseconds, for as long as the client stays.
    Drip,
}

/// A server on a loopback address; it ends when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
    /// Most connections that were open at the same time.
    pub(super) open_max: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Asked {
    /// A field, by its name in lower case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            (field.to_ascii_lowercase() == name).then(|| value.trim())
        })
    }
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Server {
        Server::start_with(None, answer).await
    }

    pub(super) async fn start_with(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (open, open_max) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (answer, log, most) = (Arc::new(answer), asked.clone(), open_max.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log, open, most) = (answer.clone(), log.clone(), open.clone(), most.clone());
                let tls = tls.clone();
                tokio::spawn(async move {
                    most.fetch_max(open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    match tls {
                        None => serve(stream, &*answer, &log).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &*answer, &log).await;
                            }
                        }
                    }
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Server { address, asked, open_max, task }
    }

    /// `http://127.0.0.1:PORT` and `path`.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// 200 with this body.
pub(super) fn ok(body: &[u8]) -> Vec<Step> {
    reply("200 OK", "", body)
}

/// Further fields end in `\r\n` each.
pub(super) fn reply(status: &str, fields: &str, body: &[u8]) -> Vec<Step> {
    let mut answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    vec![Step::Send(answer)]
}

pub(super) fn raw(answer: &str) -> Vec<Step> {
    vec![Step::Send(answer.as_bytes().to_vec())]
}

/// A port that nobody listens on, as far as that can be known.
pub(super) async fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answer: &(dyn Fn(&Asked) -> Vec<Step> + Send + Sync),
    log: &Mutex<Vec<Asked>>,
) {
    let Some(asked) = read(&mut stream).await else { return };
    log.lock().unwrap().push(asked.clone());
    for step in answer(&asked) {
        let gone = match step {
            Step::Send(bytes) => stream.write_all(&bytes).await.is_err(),
            Step::Silence => {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.is_err()
            }
            Step::Drip => {
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                true
            }
        };
        if gone {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut buffer).await {
            Ok(length @ 1..) => bytes.extend_from_slice(&buffer[..length]),
            _ => return None,
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut asked = Asked { method, target, head, body: bytes[end..].to_vec() };
    let length: usize = asked.field("content-length").map_or(Ok(0), str::parse).ok()?;
    while asked.body.len() < length {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => asked.body.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    }
    Some(asked)
}

/// A verified path: leaf first, then the intermediates of its chain, each with these distribution points; `root` is its anchor.
pub(super) fn path(bundle: &str, leaf: &Issued, root: &Authority, crl_urls: &[&str]) -> Arc<PeerPath> {
    let chain = leaf.chain();
    let id = |certificate: &CertificateDer<'_>| IssuerId::of_certificate(certificate).unwrap();
    let certificates = chain.iter().enumerate().map(|(position, der)| PathCertificate {
        der: der.clone(),
        issuer: chain.get(position + 1).map_or_else(|| id(root.certificate()), id),
        // That of the leaf for all: nobody looks at the others here.
        serial: Serial::new(leaf.serial()).unwrap(),
        spki_sha256: [0; 32],
        fingerprint_sha256: leaf.fingerprint_sha256(),
        crl_urls: crl_urls.iter().map(|url| Box::from(*url)).collect(),
        ocsp_url: None,
    });
    Arc::new(PeerPath {
        bundle: bundle.into(),
        certificates: certificates.collect(),
        beside: Vec::new(),
        anchor: AnchorRef {
            fingerprint_sha256: root.fingerprint_sha256(),
            spki_sha256: root.spki_sha256(),
            issuer: id(root.certificate()),
        },
        valid_from: 0,
        valid_until: i64::MAX,
    })
}

pub(super) fn issuer(authority: &Authority) -> IssuerCertificate {
    IssuerCertificate::from_der(authority.certificate()).unwrap()
}

/// The same path, whose leaf names this OCSP responder.
pub(super) fn naming_responder(path: &PeerPath, url: &str) -> Arc<PeerPath> {
    let mut path = path.clone();
    path.certificates[0].ocsp_url = Some(url.into());
    Arc::new(path)
}

/// A certificate of ours with its chain and key.
pub(super) fn credential(issued: &Issued) -> Arc<Credential> {
    let (chain, key) = (issued.chain_pem(), issued.key_pem());
    let source = CredentialSource {
        chain_file: Path::new("chain.pem"),
        chain_pem: chain.as_bytes(),
        key_file: Path::new("key.pem"),
        key_pem: key.as_bytes(),
    };
    Arc::new(Credential::from_pem(&source, CredentialOptions::default(), UnixTime::now()).unwrap())
}

/// The smallest configuration.
pub(super) fn config() -> Config {
    let text = r#"
        [trust.partners]
        ca = "ca.pem"
        [policy.main]
        path = "policies"
        [cluster.c]
        endpoints = "127.0.0.1:80"
        [[listener]]
        name = "edge"
        bind = "127.0.0.1:0"
        [[listener.host]]
        names = "a.test"
        certificate = { chain = "a.pem", key = "a.key" }
        client_auth = { mode = "required", trust = "partners" }
        policy = "main"
        [[listener.host.route]]
        match = { path = "/" }
        cluster = "c"
    "#;
    ringward_config::parse(text, Path::new("ringward.toml")).unwrap()
}

/// Where its certificate is named.
pub(super) fn location() -> Location {
    config().listeners[0].hosts[0].certificates[0].at.clone()
}
