//! The certificates of a comparison. All keys are P-256, and both sides send a leaf with its intermediate and trust the root.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{ExtendedKeyUsagePurpose, SanType};

use crate::fleet::authority::{Authority, Subject, Times, Validity};
use crate::fleet::{Class, FleetError, KeyType};

/// Where they are.
#[derive(Clone, Debug)]
pub(super) struct PkiFiles {
    pub(super) server_chain: PathBuf,
    pub(super) server_key: PathBuf,
    /// Whom clients trust, and whom the proxies trust.
    pub(super) server_ca: PathBuf,
    pub(super) client_ca: PathBuf,
    dir: PathBuf,
}

/// Who a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    A,
    B,
    /// Its names are those of A, and its certificate ended yesterday.
    Expired,
    /// Its names are those of A, under a root that nobody trusts.
    Stranger,
}

impl PkiFiles {
    /// Makes all of them in a new directory.
    ///
    /// # Errors
    /// If the file system refuses.
    pub(super) fn make(dir: &Path) -> Result<PkiFiles, FleetError> {
        fs::create_dir(dir).map_err(|reason| FleetError::Write { path: dir.to_owned(), reason })?;
        let times = Times::now(VALID_DAYS);
        let gateway = Authority::new("Gateway", &times)?;
        let clients = Authority::new("Clients", &times)?;
        let strangers = Authority::new("Strangers", &times)?;
        write(&dir.join("server-ca.pem"), &gateway.root_pem())?;
        write(&dir.join("client-ca.pem"), &clients.root_pem())?;

        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let name = |text: &str| text.try_into().map(SanType::DnsName);
        issue(&gateway, dir, "server", (SERVER_NAME, name(SERVER_NAME), usage), times.of(Class::Valid))?;
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let uri = |text: &str| text.try_into().map(SanType::URI);
        for (client, issuer, common_name, text, class) in [
            (Client::A, &clients, "client-a", CLIENT_A_URI, Class::Valid),
            (Client::B, &clients, "client-b", CLIENT_B_URI, Class::Valid),
            (Client::Expired, &clients, "client-a", CLIENT_A_URI, Class::Expired),
            (Client::Stranger, &strangers, "client-a", CLIENT_A_URI, Class::Valid),
        ] {
            let subject = (common_name, uri(text), usage.clone());
            issue(issuer, dir, client.file(), subject, times.of(class))?;
        }
        Ok(PkiFiles {
            server_chain: dir.join("server.pem"),
            server_key: dir.join("server.key"),
            server_ca: dir.join("server-ca.pem"),
            client_ca: dir.join("client-ca.pem"),
            dir: dir.to_owned(),
        })
    }

    /// Chain and key of a client.
    pub(super) fn client(&self, client: Client) -> [PathBuf; 2] {
        ["pem", "key"].map(|kind| self.dir.join(format!("{}.{kind}", client.file())))
    }
}

impl Client {
    fn file(self) -> &'static str {
        match self {
            Client::A => "client-a",
            Client::B => "client-b",
            Client::Expired => "expired",
            Client::Stranger => "stranger",
        }
    }
}

fn issue(
    issuer: &Authority,
    dir: &Path,
    file: &str,
    (common_name, alternative, usage): (&str, Result<SanType, rcgen::Error>, ExtendedKeyUsagePurpose),
    validity: Validity,
) -> Result<(), FleetError> {
    let common_name = common_name.to_owned();
    let alternative =
        alternative.map_err(|reason| FleetError::Certificate { subject: common_name.clone(), reason })?;
    let subject = Subject { common_name, organization: None, alternative_names: vec![alternative], usage };
    let issued = issuer.issue(subject, KeyType::P256, validity)?;
    write(&dir.join(format!("{file}.pem")), &(issued.certificate + &issuer.issuing_pem))?;
    write_with(&dir.join(format!("{file}.key")), &issued.key, KEY_MODE)
}

fn write(path: &Path, text: &str) -> Result<(), FleetError> {
    write_with(path, text, CERTIFICATE_MODE)
}

fn write_with(path: &Path, text: &str, mode: u32) -> Result<(), FleetError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = created.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|reason| FleetError::Write { path: path.to_owned(), reason })
}

pub(super) const SERVER_NAME: &str = "api.example.com";
pub(super) const CLIENT_A_URI: &str = "spiffe://bench/client-a";
pub(super) const CLIENT_B_URI: &str = "spiffe://bench/client-b";
/// No comparison lasts longer.
const VALID_DAYS: u32 = 7;
const CERTIFICATE_MODE: u32 = 0o644;
/// Ringward serves with no key that others may read.
const KEY_MODE: u32 = 0o600;
