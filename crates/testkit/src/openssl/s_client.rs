//! `openssl s_client`: a TLS client that nobody here wrote, with sessions that lie in files.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::pki::der;
use crate::{DEADLINE, PemFiles};

/// How to run `openssl s_client`. Offers every version that OpenSSL has, unless told otherwise.
///
/// ```no_run
/// use ringward_testkit::{Pki, SClient};
///
/// let (pki, address) = (Pki::new(), ([127, 0, 0, 1], 8443).into());
/// let session = pki.path().join("a.session");
/// let client = SClient::new(address, "api.example.com", &pki.path().join("ca.pem"));
/// let first = client.clone().save(&session).get("api.example.com", "/");
/// let second = client.offer(&session).get("api.example.com", "/");
/// assert!(!first.resumed() && second.resumed());
/// ```
#[derive(Debug, Clone)]
pub struct SClient {
    arguments: Vec<OsString>,
    configuration: Option<PathBuf>,
}

/// What one run of `openssl s_client` said.
#[derive(Debug, Clone)]
pub struct SClientRun {
    /// Everything that it wrote, with the response within.
    pub text: String,
}

impl SClient {
    /// A client that asks for `server_name` and trusts the authorities in the file `ca`.
    pub fn new(address: SocketAddr, server_name: &str, ca: &Path) -> Self {
        let address = address.to_string();
        // Without the last two it would take lines that begin with certain letters for orders, and the end of its input
        // for the end of its work.
        Self { arguments: Vec::new(), configuration: None }
            .arguments(["s_client", "-connect", &address, "-servername", server_name])
            .arguments(["-alpn", "http/1.1", "-nocommands", "-ign_eof"])
            .argument("-CAfile", ca)
    }

    /// Presents a certificate when asked.
    pub fn identity(self, files: &PemFiles) -> Self {
        let client = self.argument("-cert", &files.chain).argument("-key", &files.key);
        // It takes only the leaf from `-cert`, and everything from `-cert_chain`.
        let chain = fs::read_to_string(&files.chain).expect("a chain in a file");
        let Some((_, intermediates)) = chain.split_once(END_CERTIFICATE) else { return client };
        if intermediates.is_empty() {
            return client;
        }
        let file = files.chain.with_extension("intermediates.pem");
        fs::write(&file, intermediates).expect("write a chain");
        client.argument("-cert_chain", &file)
    }

    /// Offers TLS 1.2 only.
    pub fn tls12(self) -> Self {
        self.arguments(["-tls1_2"])
    }

    /// Keeps the last session in this file, if the server gives one.
    pub fn save(self, session: &Path) -> Self {
        self.argument("-sess_out", session)
    }

    /// Offers the session in this file, which stays as it is: it can be offered again.
    pub fn offer(self, session: &Path) -> Self {
        self.argument("-sess_in", session)
    }

    /// Asks for an OCSP staple.
    pub fn ask_for_staple(self) -> Self {
        self.arguments(["-status"])
    }

    /// Sends the content of this file as early data, if the session that is offered is [open](Self::open_to_early_data)
    /// to it.
    pub fn early_data(self, file: &Path) -> Self {
        self.argument("-early_data", file)
    }

    /// Reads this configuration file of OpenSSL, for what no argument says.
    pub fn configuration(mut self, file: &Path) -> Self {
        self.configuration = Some(file.to_owned());
        self
    }

    /// Adds arguments as they are.
    pub fn arguments<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.arguments.extend(arguments.map(OsString::from));
        self
    }

    /// Connects, sends GET with `Connection: close`, and reads until the server closes.
    ///
    /// # Panics
    /// If it has not ended by [`DEADLINE`].
    #[track_caller]
    pub fn get(&self, host: &str, target: &str) -> SClientRun {
        self.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())
    }

    /// The same with any bytes.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) -> SClientRun {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", &DEADLINE.as_secs().to_string(), "openssl"]).args(&self.arguments);
        command.envs(self.configuration.iter().map(|file| ("OPENSSL_CONF", file)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start openssl, which these tests need");
        // Small enough for the pipe. It fails if openssl has given up already, which its output tells.
        let _ = child.stdin.take().expect("stdin is piped").write_all(bytes);
        let output = child.wait_with_output().expect("openssl ends");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.code().is_some(), "openssl had not ended after {DEADLINE:?}: {text}");
        SClientRun { text }
    }

    /// Changes a session in a file so that a client believes it may send early data, whatever the server said.
    pub fn open_to_early_data(session: &Path) {
        // `SSL_SESSION_ASN1` in OpenSSL: the most bytes of early data.
        replace_field(session, 15, &number(16_384));
    }

    /// Changes a session in a file so that a client offers it for a week, whatever the server said.
    pub fn keep_for_a_week(session: &Path) {
        // The same: seconds that the session is good for, and that its ticket is.
        for field in [2, 9] {
            replace_field(session, field, &number(7 * 24 * 3600));
        }
    }

    /// The ticket, or the name, of the session in a file: what a client sends.
    pub fn ticket(session: &Path) -> Vec<u8> {
        let content = read(session);
        let fields = der::elements(der::split(&content).0);
        let field = fields.iter().find(|field| field[0] == 0xaa).expect("a session with a ticket");
        der::split(der::split(field).0).0.to_vec()
    }

    /// Replaces it.
    pub fn replace_ticket(session: &Path, ticket: &[u8]) {
        replace_field(session, 10, &der::octets(ticket));
    }

    fn argument(mut self, option: &str, path: &Path) -> Self {
        self.arguments.extend([option.into(), path.as_os_str().to_owned()]);
        self
    }
}

impl SClientRun {
    /// Whether a handshake was completed, and resumed the session that was offered.
    pub fn resumed(&self) -> bool {
        self.text.contains("\nReused, TLSv")
    }

    /// The version of TLS that was agreed on, such as `TLSv1.3`.
    pub fn version(&self) -> Option<&str> {
        let line =
            self.text.lines().find(|line| line.starts_with("New, TLS") || line.starts_with("Reused, TLS"))?;
        line.split([' ', ',']).find(|word| word.starts_with("TLS"))
    }

    /// The status of the response, if there was one.
    pub fn status(&self) -> Option<u16> {
        let at = self.text.find("HTTP/1.1 ")?;
        self.text[at + "HTTP/1.1 ".len()..].get(..3)?.parse().ok()
    }

    /// What became of early data: `accepted`, `rejected`, or `not sent`.
    pub fn early_data(&self) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix("Early data was "))
    }
}

/// Sets an optional field of a session, which are in the order of their tags.
fn replace_field(session: &Path, field: u8, value: &[u8]) {
    let content = read(session);
    let tag = 0xa0 | field;
    let mut fields: Vec<Vec<u8>> =
        der::elements(der::split(&content).0).into_iter().map(<[u8]>::to_vec).collect();
    fields.retain(|element| element[0] != tag);
    let at = fields.iter().position(|element| element[0] > tag).unwrap_or(fields.len());
    fields.insert(at, der::context(field, value));
    let pem = crate::pki::pem("SSL SESSION PARAMETERS", &der::sequence(&fields));
    fs::write(session, pem).expect("write a session");
}

fn number(value: u32) -> Vec<u8> {
    der::integer(&value.to_be_bytes())
}

/// The DER of a session in a file.
fn read(session: &Path) -> Vec<u8> {
    let pem = fs::read_to_string(session).expect("a session in a file");
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).expect("PEM")
}

const END_CERTIFICATE: &str = "-----END CERTIFICATE-----\n";

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::{Authority, Leaf, Pki, Process};

    /// `openssl s_server` that answers every request with its own state.
    fn server(pki: &Pki, root: &Authority, arguments: &[&str]) -> (Process, SocketAddr) {
        let files = pki.write_pem("server", &root.issue(&Leaf::server("localhost")));
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-www", "-naccept", "8", "-cert"]);
        command.arg(&files.chain).arg("-key").arg(&files.key).args(arguments);
        let process = Process::start(&mut command);
        let line = process.wait_for_line(DEADLINE, |line| line.starts_with("ACCEPT "));
        let address = line.split_whitespace().nth(1).and_then(|address| address.parse().ok());
        (process, address.expect("ACCEPT and an address"))
    }

    #[test]
    fn saves_and_offers_sessions() {
        let (pki, root) = (Pki::new(), Authority::root("Root"));
        let ca = pki.write_authorities("ca.pem", &[&root]);
        let (_server, address) = server(&pki, &root, &[]);
        let session = pki.path().join("a.session");
        for (version, client) in [
            ("TLSv1.3", SClient::new(address, "localhost", &ca)),
            ("TLSv1.2", SClient::new(address, "localhost", &ca).tls12()),
        ] {
            let first = client.clone().save(&session).get("localhost", "/");
            assert!(!first.resumed() && first.version() == Some(version), "{}", first.text);
            for _ in 0..2 {
                let second = client.clone().offer(&session).get("localhost", "/");
                assert!(second.resumed() && second.version() == Some(version), "{}", second.text);
            }
        }
    }

    #[test]
    fn presents_whole_chains() {
        let (pki, root) = (Pki::new(), Authority::root("Root"));
        let ca = pki.write_authorities("ca.pem", &[&root]);
        let deep = root.intermediate("One").intermediate("Two").issue(&Leaf::client("deep"));
        let files = pki.write_pem("deep", &deep);
        let ca_file = ca.to_string_lossy();
        let (_server, address) =
            server(&pki, &root, &["-Verify", "4", "-verify_return_error", "-CAfile", &ca_file]);
        let client = SClient::new(address, "localhost", &ca);
        let anonymous = client.get("localhost", "/");
        assert!(anonymous.text.contains("alert") && anonymous.status().is_none(), "{}", anonymous.text);
        let known = client.identity(&files).get("localhost", "/");
        assert!(known.text.contains("deep"), "{}", known.text);
    }

    #[test]
    fn sends_early_data_even_unasked() {
        let (pki, root) = (Pki::new(), Authority::root("Root"));
        let ca = pki.write_authorities("ca.pem", &[&root]);
        let early = pki.write("early", "GET /early HTTP/1.1\r\n\r\n");
        let session = pki.path().join("a.session");
        let (_server, address) = server(&pki, &root, &[]);
        let client = SClient::new(address, "localhost", &ca);
        client.clone().save(&session).get("localhost", "/");
        let client = client.offer(&session).early_data(&early);
        assert_eq!(client.get("localhost", "/").early_data(), Some("not sent"));
        SClient::open_to_early_data(&session);
        let run = client.get("localhost", "/");
        assert_eq!(run.early_data(), Some("rejected"), "{}", run.text);
    }
}
