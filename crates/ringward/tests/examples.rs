//! The sample configurations of `deploy/examples`: each is checked, served and driven by curl, with certificates made for the occasion.
//!
//! What they name stands below the directories of an installed service. Here the same files are below a temporary one, and ports are
//! free ones; nothing else of a sample is changed.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringward_testkit::{
    Authority, Crl, DEADLINE, Issued, Leaf, Pki, Process, Upstream, eventually, free_port,
};

use self::common::ringward;

const DAY: Duration = Duration::from_secs(86_400);

/// A sample with all that it names.
struct Sample {
    pki: Pki,
    root: Authority,
    upstream: Upstream,
    /// The name of its host.
    host: &'static str,
    port: u16,
}

impl Sample {
    /// Puts `file` and its policy where nothing else is yet.
    fn new(file: &str, policy: &str, host: &'static str) -> Sample {
        let (pki, upstream) = (Pki::new(), Upstream::start());
        let (port, metrics) = (free_port(), free_port());
        let mut text = read(&examples().join(file));
        let home = pki.path().display().to_string();
        for (from, to) in [
            ("\"/var/lib/", format!("\"{home}/lib/")),
            ("\"/run/ringward/", format!("\"{home}/run/")),
            ("\"127.0.0.1:8080\"", format!("\"{}\"", upstream.address())),
            ("\"127.0.0.1:9464\"", format!("\"127.0.0.1:{metrics}\"")),
            ("\"[::]:443\"", format!("\"127.0.0.1:{port}\"")),
        ] {
            assert!(text.contains(from), "{file} has no {from}");
            text = text.replace(from, &to);
        }
        pki.write("etc/ringward.toml", text);
        pki.write(&format!("etc/{policy}"), read(&examples().join(policy)));
        pki.write("run/.keep", "");
        pki.write("lib/ringward/.keep", "");
        Sample { root: Authority::root("Example CA"), pki, upstream, host, port }
    }

    /// A certificate of ours, which comes with an intermediate as those of real CAs do.
    fn server(&self, leaf: &Leaf) -> Issued {
        self.root.intermediate("Example Issuing CA").issue(leaf)
    }

    fn config(&self) -> PathBuf {
        self.pki.path().join("etc/ringward.toml")
    }

    /// What an agent does: a new directory with everything, then a link renamed over the old one.
    fn replace(&self, name: &str, generation: &str, files: &[(&str, String)]) {
        for (file, content) in files {
            self.pki.write(&format!("lib/ca-agent/{name}/{generation}/{file}"), content);
        }
        let directory = self.pki.path().join("lib/ca-agent").join(name);
        symlink(generation, directory.join("next")).unwrap();
        fs::rename(directory.join("next"), directory.join("current")).unwrap();
    }

    /// `ringward check`, without a word of warning.
    fn check(&self) {
        let mut check = Process::start(ringward().args(["check", "-c"]).arg(self.config()));
        let code = check.wait(DEADLINE).code();
        assert_eq!((code, check.stderr().as_str()), (Some(0), ""), "{}", check.stdout());
        let mut prove = Process::start(ringward().args(["prove", "-c"]).arg(self.config()));
        assert_eq!(prove.wait(DEADLINE).code(), Some(0), "{}{}", prove.stdout(), prove.stderr());
    }

    fn start(&self) -> Process {
        let process = Process::start(ringward().args(["run", "-c"]).arg(self.config()));
        process.wait_for_line(DEADLINE, |line| line.contains("\"ready\""));
        process
    }

    /// curl for `path`, as `client` or as nobody.
    fn curl(&self, client: Option<&Issued>, path: &str, options: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "20",
            "--output",
            "/dev/null",
        ]);
        curl.args(["--write-out", "%{http_code}", "--resolve"])
            .arg(format!("{}:{}:127.0.0.1", self.host, self.port));
        curl.arg("--cacert").arg(self.pki.write("clients/ca.pem", self.root.pem()));
        if let Some(client) = client {
            let files = self.pki.write_pem("clients/client", client);
            curl.arg("--cert").arg(files.chain).arg("--key").arg(files.key);
        }
        curl.args(options).arg(format!("https://{}:{}{path}", self.host, self.port));
        curl.output().expect("run curl")
    }

    #[track_caller]
    fn answers(&self, client: &Issued, path: &str, status: &str) {
        let output = self.curl(Some(client), path, &[]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), status, "{path}: {output:?}");
    }

    /// Nobody gets in without a certificate, and with one of somebody else's CA.
    fn refuses_strangers(&self) {
        let stranger =
            Authority::root("Example CA").issue(&Leaf::client("stranger").organization("Partner A"));
        for client in [None, Some(&stranger)] {
            let output = self.curl(client, "/orders", &[]);
            assert!(!output.status.success() && output.stdout == b"000", "{output:?}");
        }
    }

    /// Whether that certificate is shown to clients.
    fn shows(&self, server: &Issued, client: &Issued) -> bool {
        let pin = format!("sha256//{}", STANDARD.encode(server.spki_sha256()));
        self.curl(Some(client), "/orders", &["--pinnedpubkey", &pin]).status.success()
    }
}

#[test]
fn certificates_by_hand() {
    let sample = Sample::new("manual.toml", "policies/partners.rego", "api.example.com");
    sample.pki.write_pem("etc/tls/api", &sample.server(&Leaf::server("api.example.com")));
    sample.pki.write_authorities("etc/trust/partners.pem", &[&sample.root]);
    let partner = sample.root.issue(&Leaf::client("a").organization("Partner A"));
    let revoked = sample.root.issue(&Leaf::client("old").organization("Partner A"));
    let list = sample.root.sign_crl_pem(&Crl::new().revoke(revoked.serial()));
    sample.pki.write("etc/crl/partners.crl", list);
    sample.check();
    let _process = sample.start();
    sample.answers(&partner, "/orders/7", "200");
    sample.answers(&partner, "/reports", "403");
    sample.refuses_strangers();
    let output = sample.curl(Some(&revoked), "/orders", &[]);
    assert_eq!(output.stdout, b"000", "{output:?}");
    assert!(!sample.upstream.requests().is_empty());
}

#[test]
fn certificates_of_an_agent() {
    let sample = Sample::new("automated.toml", "policies/partners.rego", "api.example.com");
    let ring = sample.pki.path().join("lib/ringward/tickets.ring");
    let mut made = Process::start(ringward().args(["keys", "new", "--file"]).arg(ring));
    assert_eq!(made.wait(DEADLINE).code(), Some(0), "{}", made.stderr());
    let server = || sample.server(&Leaf::server("api.example.com"));
    let files = |issued: &Issued| [("chain.pem", issued.chain_pem()), ("key.pem", issued.key_pem())];
    let list = |number| sample.root.sign_crl_pem(&Crl::new().number(number));
    let (first, second) = (server(), server());
    sample.replace("api", "1", &files(&first));
    sample.replace("partners", "1", &[("ca.pem", sample.root.pem()), ("crl/1.crl", list(1))]);
    sample.check();
    let _process = sample.start();
    let partner = sample.root.issue(&Leaf::client("a").organization("Partner A"));
    sample.answers(&partner, "/orders", "200");
    sample.refuses_strangers();
    assert!(sample.shows(&first, &partner) && !sample.shows(&second, &partner));

    // Renewed as a whole, noticed without a signal.
    sample.replace("api", "2", &files(&second));
    eventually(DEADLINE, "the new certificate is shown", || sample.shows(&second, &partner));
    assert!(!sample.shows(&first, &partner));

    // The agent brings a list with this client.
    let revoking = sample.root.sign_crl_pem(&Crl::new().number(2).revoke(partner.serial()));
    sample.replace("partners", "2", &[("ca.pem", sample.root.pem()), ("crl/1.crl", revoking)]);
    eventually(DEADLINE, "the client is refused", || {
        sample.curl(Some(&partner), "/orders", &[]).stdout == b"000"
    });
    let long = sample.root.issue(&Leaf::client("b").organization("Partner A").valid_for(101 * DAY));
    assert_eq!(sample.curl(Some(&long), "/orders", &[]).stdout, b"000", "it lives too long");
}

#[test]
fn certificates_of_hours() {
    let sample = Sample::new("short-lived.toml", "policies/workloads.rego", "orders.prod.example.com");
    let short = Duration::from_secs(3600);
    let server = sample.server(&Leaf::server(sample.host).valid_for(short));
    let files = [("chain.pem", server.chain_pem()), ("key.pem", server.key_pem())];
    sample.replace("orders", "1", &files);
    sample.replace("workloads", "1", &[("ca.pem", sample.root.pem())]);
    sample.check();
    let _process = sample.start();
    let workload = |id: &str, life| sample.root.issue(&Leaf::client("w").spiffe(id).valid_for(life));
    let checkout = workload("spiffe://prod.example.com/ns/shop/sa/checkout", short);
    sample.answers(&checkout, "/orders", "200");
    sample.answers(&checkout, "/orders-archive", "403");
    sample.answers(&workload("spiffe://prod.example.com/ns/monitoring/sa/prober", short), "/health", "200");
    sample.answers(&workload("spiffe://prod.example.com/ns/shop/sa/cart", short), "/orders", "403");
    sample.refuses_strangers();
    for (what, refused) in [
        ("too long", workload("spiffe://prod.example.com/ns/shop/sa/checkout", 2 * DAY)),
        ("another domain", workload("spiffe://dev.example.com/ns/shop/sa/checkout", short)),
    ] {
        let output = sample.curl(Some(&refused), "/orders", &[]);
        assert_eq!(output.stdout, b"000", "{what}: {output:?}");
    }
}

#[test]
fn samples_are_complete_and_weaken_nothing() {
    let readme = read(&examples().join("README.md"));
    let samples: Vec<PathBuf> = fs::read_dir(examples())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert_eq!(samples.len(), 3);
    for path in samples {
        let text = read(&path);
        assert!(
            !text.contains("danger_") && text.contains("require ") && text.contains("[admin]"),
            "{path:?}"
        );
        assert!(readme.contains(path.file_name().unwrap().to_str().unwrap()), "{path:?} is not described");
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
