//! The OCSP responder of OpenSSL.

use std::cell::RefCell;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::leaf::{DAY_SECONDS, from_now};
use super::{Authority, Issued, Pki, der};
use crate::{DEADLINE, Process, openssl};

/// What an authority remembers of the certificates that it has issued, in the files of `openssl ca`. Of a certificate that
/// is not in it `openssl ocsp` says `unknown`.
///
/// ```no_run
/// use ringward_testkit::{Authority, Leaf, OcspDatabase, Pki};
///
/// let (pki, root) = (Pki::new(), Authority::root("Root"));
/// let database = OcspDatabase::new(&pki, "root", &root);
/// let responder = database.serve();
/// let server = root.issue(&Leaf::server("api.example.com").ocsp_url(&responder.url()));
/// database.good(&server);
/// // It sees later changes too.
/// database.revoked(&server, "keyCompromise");
/// ```
#[derive(Debug)]
pub struct OcspDatabase<'a> {
    pki: &'a Pki,
    name: String,
    authority: PathBuf,
    signer: PathBuf,
    signer_key: PathBuf,
    rows: RefCell<Vec<(String, String)>>,
    serving: RefCell<Vec<SocketAddr>>,
}

/// A running `openssl ocsp`. It answers one request after the other, with a nonce if it was sent one. Killed when dropped.
#[derive(Debug)]
pub struct Responder {
    process: Process,
    address: SocketAddr,
}

impl<'a> OcspDatabase<'a> {
    /// Of an authority that signs its answers itself. The files are named after `name`.
    pub fn new(pki: &'a Pki, name: &str, authority: &Authority) -> Self {
        let certificate = pki.write(&format!("{name}-ocsp-ca.pem"), authority.pem());
        let key = pki.write(&format!("{name}-ocsp.key"), authority.key_pem());
        Self::with_signer(pki, name, certificate.clone(), certificate, key)
    }

    /// Of an authority for which `signer` answers, rightly or not.
    pub fn delegated(pki: &'a Pki, name: &str, authority: &Authority, signer: &Issued) -> Self {
        let certificate = pki.write(&format!("{name}-ocsp-ca.pem"), authority.pem());
        let files = pki.write_pem(&format!("{name}-ocsp"), signer);
        Self::with_signer(pki, name, certificate, files.chain, files.key)
    }

    /// The certificate is known and valid.
    pub fn good(&self, issued: &Issued) {
        self.set(issued, "V", "");
    }

    /// The certificate was revoked a minute ago, for a reason such as `keyCompromise`.
    pub fn revoked(&self, issued: &Issued, reason: &str) {
        self.set(issued, "R", &format!("{},{reason}", der::utc_time(from_now(-60))));
    }

    /// Starts a responder whose answers hold for an hour.
    pub fn serve(&self) -> Responder {
        self.serve_with(60)
    }

    /// Starts a responder whose answers hold for so many minutes; without nextUpdate if 0.
    pub fn serve_with(&self, minutes: u32) -> Responder {
        let mut command = Command::new("openssl");
        let process = Process::start(command.args(self.arguments(minutes)).args(["-port", "0"]));
        let line = process.wait_for_line(DEADLINE, |line| line.starts_with("ACCEPT "));
        let port = line.split_whitespace().nth(1).and_then(|address| address.rsplit(':').next());
        let port = port.and_then(|port| port.parse().ok()).expect("ACCEPT, an address, a port");
        let address = (Ipv4Addr::LOCALHOST, port).into();
        self.serving.borrow_mut().push(address);
        Responder { process, address }
    }

    /// What a responder would answer now about a certificate of this authority, with further arguments of `openssl ocsp`
    /// such as `-badsig`. DER.
    pub fn answer(&self, issued: &Issued, minutes: u32, arguments: &[&str]) -> Vec<u8> {
        let request = self.pki.path().join(format!("{}-ocsp-request.der", self.name));
        let leaf = self.pki.write(&format!("{}-ocsp-asked.pem", self.name), issued.chain_pem());
        let ask = [
            ("-issuer", self.authority.as_path()),
            ("-cert", leaf.as_path()),
            ("-reqout", request.as_path()),
        ];
        openssl(["ocsp", "-no_nonce"].map(OsString::from).into_iter().chain(pairs(&ask)), b"");
        self.answer_to(&request, minutes, arguments)
    }

    /// The same about what the request in this file asks.
    pub fn answer_to(&self, request: &Path, minutes: u32, arguments: &[&str]) -> Vec<u8> {
        let response = self.pki.path().join(format!("{}-ocsp-response.der", self.name));
        let answer = [("-reqin", request), ("-respout", response.as_path())];
        let more = arguments.iter().map(OsString::from);
        openssl(self.arguments(minutes).into_iter().chain(pairs(&answer)).chain(more), b"");
        std::fs::read(response).expect("a response was written")
    }

    fn with_signer(pki: &'a Pki, name: &str, authority: PathBuf, signer: PathBuf, key: PathBuf) -> Self {
        let (rows, serving) = Default::default();
        let database = Self { pki, name: name.to_owned(), authority, signer, signer_key: key, rows, serving };
        database.write();
        database
    }

    /// Sets the row of a certificate: flag, expiry, revocation, serial number, file, subject.
    fn set(&self, issued: &Issued, flag: &str, revocation: &str) {
        let serial: String = issued.serial().iter().map(|octet| format!("{octet:02X}")).collect();
        let expiry = der::utc_time(from_now(30 * DAY_SECONDS));
        let row = format!("{flag}\t{expiry}\t{revocation}\t{serial}\tunknown\t/CN={serial}\n");
        let mut rows = self.rows.borrow_mut();
        rows.retain(|(other, _)| *other != serial);
        rows.push((serial, row));
        drop(rows);
        self.write();
        for address in self.serving.borrow().iter() {
            // It looks at the file before it waits for a request, and so would answer the next one from what it has: let
            // that be one for nothing. It fails if that responder was stopped.
            let mut command = Command::new("openssl");
            command.args(["ocsp", "-noverify", "-url", &url(*address), "-issuer"]).arg(&self.authority);
            command.args(["-serial", "1"]).output().expect("run openssl");
        }
    }

    /// A new file each time: `openssl ocsp` reads it again when its inode is another.
    fn write(&self) {
        let rows: String = self.rows.borrow().iter().map(|(_, row)| row.as_str()).collect();
        self.pki.write(&self.index_name(), rows);
    }

    fn index_name(&self) -> String {
        format!("{}-ocsp-index.txt", self.name)
    }

    fn arguments(&self, minutes: u32) -> Vec<OsString> {
        let index = self.pki.path().join(self.index_name());
        let files = [
            ("-index", index.as_path()),
            ("-CA", self.authority.as_path()),
            ("-rsigner", self.signer.as_path()),
            ("-rkey", self.signer_key.as_path()),
        ];
        let mut arguments: Vec<OsString> =
            [OsString::from("ocsp")].into_iter().chain(pairs(&files)).collect();
        if minutes > 0 {
            arguments.extend(["-nmin".into(), minutes.to_string().into()]);
        }
        arguments
    }
}

impl Responder {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where to ask it.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// Ends it: nobody listens there any more.
    pub fn stop(mut self) {
        self.process.kill();
    }
}

fn url(responder: SocketAddr) -> String {
    format!("http://{responder}/")
}

/// Options with a path each.
fn pairs<'p>(options: &'p [(&'p str, &'p Path)]) -> impl Iterator<Item = OsString> + 'p {
    options.iter().flat_map(|(option, path)| [OsString::from(option), path.as_os_str().to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Leaf;

    /// What a client that asks the responder is told.
    fn ask(pki: &Pki, responder: &Responder, authority: &Authority, issued: &Issued) -> String {
        let ca = pki.write_authorities("asked-ca.pem", &[authority]);
        let leaf = pki.write("asked.pem", issued.chain_pem());
        let mut command = Command::new("openssl");
        command.args(["ocsp", "-url", &responder.url(), "-CAfile"]).arg(&ca).arg("-issuer").arg(&ca);
        let output = command.arg("-cert").arg(leaf).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    #[test]
    fn answers_and_follows_changes() {
        let (pki, root) = (Pki::new(), Authority::root("Root"));
        let (one, two) =
            (root.issue(&Leaf::server("one").serial(&[0x0f, 1])), root.issue(&Leaf::server("two")));
        let database = OcspDatabase::new(&pki, "root", &root);
        database.good(&one);
        let responder = database.serve();
        assert!(ask(&pki, &responder, &root, &one).contains("asked.pem: good"));
        assert!(ask(&pki, &responder, &root, &two).contains("asked.pem: unknown"));
        database.revoked(&one, "keyCompromise");
        let said = ask(&pki, &responder, &root, &one);
        assert!(said.contains("Response verify OK") && said.contains("Reason: keyCompromise"), "{said}");
        let address = responder.address();
        responder.stop();
        assert!(std::net::TcpStream::connect(address).is_err());
        database.good(&two);
    }

    #[test]
    fn a_delegate_answers() {
        let (pki, root) = (Pki::new(), Authority::root("Root"));
        let signer = root.issue(&Leaf::ocsp_signer("OCSP"));
        let database = OcspDatabase::delegated(&pki, "root", &root, &signer);
        let leaf = root.issue(&Leaf::server("one"));
        database.good(&leaf);
        let responder = database.serve_with(0);
        let said = ask(&pki, &responder, &root, &leaf);
        assert!(
            said.contains("verify OK") && said.contains("good") && !said.contains("Next Update"),
            "{said}"
        );
        let answers = [database.answer(&leaf, 5, &[]), database.answer(&leaf, 5, &["-badsig"])];
        let verified = answers.map(|answer| {
            let mut command = Command::new("openssl");
            command.args(["ocsp", "-no_nonce", "-CAfile"]).arg(pki.write_authorities("ca.pem", &[&root]));
            let output = command.arg("-respin").arg(pki.write("answer.der", answer)).output().unwrap();
            String::from_utf8_lossy(&output.stderr).contains("verify OK")
        });
        assert_eq!(verified, [true, false]);
    }
}
