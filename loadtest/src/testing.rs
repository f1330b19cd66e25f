//! A TLS server in the test's own process, with clients' certificates, that answers rightly or wrongly as its paths say.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::{CommandFactory, FromArgMatches, Parser};
use h2::RecvStream;
use h2::server::SendResponse;
use ringward_testkit::{Authority, Leaf, Pki};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ConfigBuilder, HandshakeKind, RootCertStore, ServerConfig, WantsVerifier};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::args::RunArguments;
use crate::fleet::{self, Files, FleetPlan};
use crate::plan::{Plan, PlanError};
use crate::report::Report;
use crate::{Arguments, Command, engine, upstream};

pub(crate) const HOST: &str = "api.example.com";

/// A server and the files for its clients.
pub(crate) struct World {
    pub(crate) pki: Pki,
    pub(crate) address: SocketAddr,
    /// Connections that it accepted.
    pub(crate) accepted: Rc<Cell<u64>>,
    /// Those of them that resumed a session.
    pub(crate) resumed: Rc<Cell<u64>>,
    /// Paths that were asked for.
    pub(crate) paths: Rc<RefCell<Vec<String>>>,
    /// New connections are served by our own upstream.
    pub(crate) as_upstream: Rc<Cell<bool>>,
}

impl World {
    /// Starts the server on the test's own runtime.
    pub(crate) async fn start() -> World {
        World::start_with(|_| {}).await
    }

    /// The same for one that gives clients nothing to resume with.
    pub(crate) async fn start_without_resumption() -> World {
        World::start_with(|config| {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        })
        .await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> World {
        let pki = Pki::new();
        let root = Authority::root("Test Root");
        let server = root.issue(&Leaf::server(HOST));
        pki.write_authorities("ca.pem", &[&root]);
        pki.write_pem("alice", &root.issue(&Leaf::client("alice")));
        pki.write_pem("stranger", &Authority::root("Other Root").issue(&Leaf::client("stranger")));
        let mut roots = RootCertStore::empty();
        roots.add(root.certificate().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
        let config = builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(server.chain().to_vec(), server.key())
            .unwrap();
        World::serve(pki, config, change).await
    }

    /// The same for the clients of a fleet, in the directory `fleet`. Those without a certificate may come too.
    pub(crate) async fn start_for_fleet(plan: &FleetPlan) -> World {
        let pki = Pki::new();
        let directory = pki.path().join("fleet");
        fleet::make(plan, &directory).unwrap();
        let files = Files::of(&directory);
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(&files.client_ca).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let lists = CertificateRevocationListDer::pem_file_iter(&files.client_crl).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .with_crls(lists.map(Result::unwrap))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let chain = CertificateDer::pem_file_iter(&files.server_chain).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&files.server_key).unwrap();
        let config = builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
        World::serve(pki, config, |_| {}).await
    }

    async fn serve(pki: Pki, mut config: ServerConfig, change: impl FnOnce(&mut ServerConfig)) -> World {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, resumed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let paths = Rc::<RefCell<Vec<String>>>::default();
        let counts = (accepted.clone(), resumed.clone());
        let asked = paths.clone();
        let as_upstream = Rc::new(Cell::new(false));
        let is_upstream = as_upstream.clone();
        tokio::task::spawn_local(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((tcp, _)) = listener.accept().await {
                counts.0.set(counts.0.get() + 1);
                // A client that goes away is no failure of a test.
                match is_upstream.get() {
                    true => drop(tokio::task::spawn_local(serve_upstream(acceptor.clone(), tcp))),
                    false => {
                        let served = serve(acceptor.clone(), tcp, counts.1.clone(), asked.clone());
                        drop(tokio::task::spawn_local(served));
                    }
                }
            }
        });
        World { pki, address, accepted, resumed, paths, as_upstream }
    }

    /// Carries out a scenario with these arguments.
    pub(crate) async fn carry_out(&self, scenario: &str, more: &str) -> Report {
        let plan = self.plan_of(scenario, more).unwrap_or_else(|error| panic!("{error}"));
        engine::run(plan, None).await
    }

    /// Why a scenario cannot be carried out.
    pub(crate) fn refusal_of(&self, scenario: &str) -> PlanError {
        self.plan_of(scenario, "").err().unwrap_or_else(|| panic!("{scenario} can be carried out"))
    }

    fn plan_of(&self, scenario: &str, more: &str) -> Result<Plan, PlanError> {
        let file = self.pki.write("scenario.toml", scenario);
        let usual = format!("--target {} --server-name {HOST} --pki", self.address);
        let (file, pki) = (file.display(), self.pki.path().join("fleet").display().to_string());
        Plan::new(&parse(&format!("{file} {usual} {pki} {more}")).unwrap())
    }

    /// The command line for this server, followed by more arguments.
    pub(crate) fn arguments(&self, more: &str) -> RunArguments {
        parse(&format!("{} {more}", self.usual())).unwrap()
    }

    /// Carries out a run with these arguments.
    pub(crate) async fn run(&self, more: &str) -> Report {
        engine::run(Plan::new(&self.arguments(more)).unwrap(), None).await
    }

    /// Why a run with these arguments cannot begin.
    pub(crate) fn refusal(&self, more: &str) -> PlanError {
        Plan::new(&self.arguments(more)).err().unwrap_or_else(|| panic!("{more} can be carried out"))
    }

    fn usual(&self) -> String {
        let file = |name: &str| self.pki.path().join(name).display().to_string();
        format!(
            "--target {} --server-name {HOST} --ca {} --cert {} --key {} --timeout 20",
            self.address,
            file("ca.pem"),
            file("alice.pem"),
            file("alice.key")
        )
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn builder() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap()
}

/// Reads the arguments of `ringward-load run`. Later ones replace earlier ones.
pub(crate) fn parse(arguments: &str) -> Result<RunArguments, clap::Error> {
    let words = ["ringward-load", "run"].into_iter().chain(arguments.split_whitespace());
    let command = Arguments::command().mut_subcommand("run", |run| run.args_override_self(true));
    let matches = command.try_get_matches_from(words)?;
    match Arguments::from_arg_matches(&matches)?.command {
        Command::Run(run) => Ok(*run),
        other => panic!("{other:?} is not to run"),
    }
}

async fn serve_upstream(acceptor: TlsAcceptor, tcp: TcpStream) {
    if let Ok(stream) = acceptor.accept(tcp).await {
        upstream::serve(stream).await;
    }
}

/// Serves one connection until it ends.
async fn serve(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    resumed: Rc<Cell<u64>>,
    paths: Rc<RefCell<Vec<String>>>,
) -> Option<()> {
    let stream = acceptor.accept(tcp).await.ok()?;
    if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
        resumed.set(resumed.get() + 1);
    }
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return serve_http2(stream, paths).await;
    }
    let mut stream = BufReader::new(stream);
    let mut served = 0;
    loop {
        let (path, close, length) = read_request(&mut stream).await?;
        served += 1;
        paths.borrow_mut().push(path.clone());
        let mut parts = path[1..].split(['/', '?']);
        let (name, number) = (parts.next().unwrap_or(""), parts.next().unwrap_or("0"));
        let number: usize = number.parse().unwrap();
        let body = "x".repeat(number);
        let connection = if close { "connection: close\r\n" } else { "" };
        let head = |status: usize, length: usize| {
            format!("HTTP/1.1 {status} Test\r\n{connection}content-length: {length}\r\n\r\n")
        };
        let answer = match name {
            "bytes" => head(200, number) + &body,
            "chunked" => format!(
                "HTTP/1.1 200 OK\r\n{connection}transfer-encoding: chunked\r\n\r\n{number:x}\r\n{body}\r\n0\r\n\r\n"
            ),
            "status" => head(number, 0),
            // One byte more with every request.
            "growing" => head(200, served) + &"x".repeat(served),
            "upload" => head(200, length) + &"x".repeat(length),
            "lies" => head(200, number + 1) + &body,
            "junk" => "junk\r\n\r\n".to_owned(),
            "silent" => std::future::pending().await,
            "slow" => {
                tokio::time::sleep(Duration::from_millis(number as u64)).await;
                head(200, 0)
            }
            // Works on it, and closes without a word.
            "works" => {
                tokio::time::sleep(Duration::from_millis(number as u64)).await;
                return None;
            }
            // Answers once and closes without a word.
            "once" => head(200, 0),
            _ => panic!("no such path: {path}"),
        };
        stream.get_mut().write_all(answer.as_bytes()).await.ok()?;
        if close || matches!(name, "lies" | "junk" | "once") {
            return stream.get_mut().shutdown().await.ok();
        }
    }
}

/// The same over HTTP/2: each request as soon as it comes.
async fn serve_http2(stream: TlsStream<TcpStream>, paths: Rc<RefCell<Vec<String>>>) -> Option<()> {
    let mut connection = h2::server::handshake(stream).await.ok()?;
    while let Some(Ok((request, respond))) = connection.accept().await {
        let path = request.uri().path_and_query()?.to_string();
        paths.borrow_mut().push(path.clone());
        if path == "/once" {
            connection.graceful_shutdown();
        }
        tokio::task::spawn_local(answer_http2(path, request.into_body(), respond));
    }
    Some(())
}

async fn answer_http2(path: String, mut body: RecvStream, mut respond: SendResponse<Bytes>) -> Option<()> {
    let mut received = 0;
    while let Some(Ok(data)) = body.data().await {
        received += data.len();
        body.flow_control().release_capacity(data.len()).ok()?;
    }
    let mut parts = path[1..].split(['/', '?']);
    let (name, number) = (parts.next()?, parts.next().unwrap_or("0").parse().unwrap());
    let head = |status: usize| http::Response::builder().status(status as u16).body(()).unwrap();
    let send = |respond: &mut SendResponse<Bytes>, status, bytes: usize| {
        let mut body = respond.send_response(head(status), bytes == 0).ok()?;
        if bytes > 0 {
            body.send_data("x".repeat(bytes).into(), true).ok()?;
        }
        Some(())
    };
    match name {
        "bytes" => send(&mut respond, 200, number),
        "status" => send(&mut respond, number, 0),
        "upload" => send(&mut respond, 200, received),
        "once" => send(&mut respond, 200, 0),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number as u64)).await;
            send(&mut respond, 200, 0)
        }
        "silent" => std::future::pending().await,
        "lies" => {
            let mut body = respond.send_response(head(200), false).ok()?;
            // A reset takes with it what has not left yet.
            tokio::time::sleep(Duration::from_millis(100)).await;
            body.send_reset(h2::Reason::INTERNAL_ERROR);
            Some(())
        }
        _ => panic!("no such path: {path}"),
    }
}

/// Path, whether it asks to close, and how long its body was.
async fn read_request(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<(String, bool, usize)> {
    let (mut path, mut close, mut length) = (None, false, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if path.is_none() {
            path = Some(line.split(' ').nth(1).unwrap().to_owned());
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        } else if line.is_empty() {
            break;
        }
        close |= line == "connection: close";
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((path.unwrap(), close, length))
}

#[test]
fn a_command_line_is_complete() {
    Arguments::try_parse_from(["ringward-load"]).unwrap_err();
    Arguments::command().debug_assert();
}
