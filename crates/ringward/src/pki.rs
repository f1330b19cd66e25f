//! `ringward pki dev`: a certificate authority, a server certificate and a few clients, for tests and demonstrations.
//!
//! Hides rcgen. Nothing in here is fit for production: keys lie unencrypted beside their CA, and the CA says so in its
//! name. Files are never overwritten, since a directory of the same name may hold keys that matter.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::failure::Failure;
use crate::terminal::say;

/// What was made.
#[derive(Debug)]
pub(crate) struct DevPki {
    /// The certificate of the CA that signed the server and all clients but `outsider`.
    pub(crate) ca: PathBuf,
    /// The server's credential.
    pub(crate) server: PemFiles,
    /// The clients' credentials.
    pub(crate) clients: Vec<Client>,
    /// End of validity of everything.
    pub(crate) not_after: OffsetDateTime,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct PemFiles {
    /// Certificate in PEM.
    pub(crate) chain: PathBuf,
    /// Key in PEM, readable by its owner only.
    pub(crate) key: PathBuf,
}

/// A client that was made.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Common name, and stem of the files.
    pub(crate) name: &'static str,
    /// What it is there for.
    pub(crate) purpose: &'static str,
    /// Its files.
    pub(crate) files: PemFiles,
}

/// Why nothing, or not everything, was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// A file of that name is there already.
    #[error("`{}` exists already and is not overwritten: name an empty or new directory", .0.display())]
    Exists(PathBuf),
    /// The file system refused.
    #[error("cannot write `{}`: {source}", .path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// A name cannot stand in a certificate.
    #[error("cannot make a certificate for {subject}: {source}")]
    Certificate {
        /// Who it was for.
        subject: String,
        /// Why not.
        source: rcgen::Error,
    },
}

/// Makes the development PKI in `dir`, with a server certificate for `names` (host names and IP addresses).
///
/// # Errors
/// If any of the files exists, before anything is written; if a name is none; if the file system refuses.
pub(crate) fn create(dir: &Path, names: &[String]) -> Result<DevPki, PkiError> {
    let files = |stem: &str| PemFiles {
        chain: dir.join(format!("{stem}.pem")),
        key: dir.join(format!("{stem}.key")),
    };
    let validity = Validity::now();
    let ca = authority("ringward development CA - do not trust", &validity)?;
    let other_ca = authority("ringward development outsider CA - do not trust", &validity)?;

    let mut output = vec![Output::of(&files("ca"), ca.pem(), ca.key().serialize_pem())];
    output.push(Output::of(&files("outsider-ca"), other_ca.pem(), other_ca.key().serialize_pem()));
    let (chain, key) = server(names, &ca, &validity)?;
    output.push(Output::of(&files("server"), chain, key));
    let mut clients = Vec::new();
    for profile in CLIENTS {
        let issuer = if profile.trusted { &ca } else { &other_ca };
        let (chain, key) = client(profile, issuer, &validity)?;
        output.push(Output::of(&files(profile.name), chain, key));
        clients.push(Client { name: profile.name, purpose: profile.purpose, files: files(profile.name) });
    }

    let taken =
        output.iter().flat_map(|output| [&output.files.chain, &output.files.key]).find(|path| path.exists());
    if let Some(path) = taken {
        return Err(PkiError::Exists(path.clone()));
    }
    fs::create_dir_all(dir).map_err(|source| PkiError::Write { path: dir.to_owned(), source })?;
    for Output { files, chain, key } in &output {
        write_new(&files.chain, chain, CERTIFICATE_MODE)?;
        write_new(&files.key, key, KEY_MODE)?;
    }
    Ok(DevPki { ca: files("ca").chain, server: files("server"), clients, not_after: validity.not_after })
}

/// `ringward pki dev`: makes the PKI and says what there is.
pub(crate) fn command(dir: &Path, names: &[String]) -> Result<(), Failure> {
    let pki = create(dir, names).map_err(|error| match error {
        PkiError::Write { .. } => Failure::Runtime(error.to_string()),
        PkiError::Exists(_) | PkiError::Certificate { .. } => Failure::Usage(error.to_string()),
    })?;
    say(format_args!(
        "For development only: keys lie unprotected beside their CA. Valid until {}.",
        pki.not_after.date()
    ));
    say(format_args!("  {}  the CA, for `ca` of a [trust.NAME] and for clients", pki.ca.display()));
    say(format_args!("  {} .key  the server, for {}", pki.server.chain.display(), names.join(", ")));
    for client in &pki.clients {
        say(format_args!("  {} .key  {}: {}", client.files.chain.display(), client.name, client.purpose));
    }
    Ok(())
}

struct Output {
    files: PemFiles,
    chain: String,
    key: String,
}

impl Output {
    fn of(files: &PemFiles, chain: String, key: String) -> Output {
        Output { files: files.clone(), chain, key }
    }
}

/// From when until when certificates are valid.
pub(crate) struct Validity {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Validity {
    /// From a little ago on.
    pub(crate) fn now() -> Validity {
        OffsetDateTime::now_utc().into()
    }
}

impl From<OffsetDateTime> for Validity {
    /// A little before `now`, for clients whose clock is behind ours.
    fn from(now: OffsetDateTime) -> Validity {
        Validity { not_before: now - Duration::hours(1), not_after: now + Duration::days(VALID_DAYS) }
    }
}

/// An authority with its key.
pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

/// An authority that signs end-entity certificates only.
pub(crate) fn authority(name: &str, validity: &Validity) -> Result<Issuer, PkiError> {
    let refused = |source| PkiError::Certificate { subject: name.to_owned(), source };
    let mut params = parameters(name, validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(refused)?).map_err(refused)
}

/// The chain and the key of a server, in PEM.
pub(crate) fn server(
    names: &[String],
    ca: &Issuer,
    validity: &Validity,
) -> Result<(String, String), PkiError> {
    let common_name = names.first().map_or("localhost", String::as_str);
    let refused = |source| PkiError::Certificate { subject: format!("the server names {names:?}"), source };
    let mut params = parameters(common_name, validity);
    params.subject_alt_names = CertificateParams::new(names).map_err(refused)?.subject_alt_names;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(params, ca).map_err(refused)
}

fn client(profile: &Profile, issuer: &Issuer, validity: &Validity) -> Result<(String, String), PkiError> {
    let refused = |source| PkiError::Certificate { subject: format!("client {}", profile.name), source };
    let mut params = parameters(profile.common_name, validity);
    // From the widest name to the narrowest, as directories do; people read it the other way round.
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, profile.organization);
    if let Some(unit) = profile.unit {
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    }
    params.distinguished_name.push(DnType::CommonName, profile.common_name);
    if let Some(uri) = profile.uri {
        params.subject_alt_names.push(SanType::URI(uri.try_into().map_err(refused)?));
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(params, issuer).map_err(refused)
}

/// Those of an end-entity certificate with nothing but a common name.
pub(crate) fn parameters(common_name: &str, validity: &Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn sign(params: CertificateParams, issuer: &Issuer) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

/// The mode is set when the file is made, so that a key is at no moment readable by others.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(
        |source| match source.kind() {
            io::ErrorKind::AlreadyExists => PkiError::Exists(path.to_owned()),
            _ => PkiError::Write { path: path.to_owned(), source },
        },
    )?;
    file.write_all(text.as_bytes()).map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

/// A client to be made.
struct Profile {
    name: &'static str,
    purpose: &'static str,
    common_name: &'static str,
    organization: &'static str,
    unit: Option<&'static str>,
    uri: Option<&'static str>,
    trusted: bool,
}

/// Names that the server certificate is for unless others are given.
pub(crate) const SERVER_NAMES: &[&str] = &["localhost", "api.localhost", "127.0.0.1", "::1"];

/// The cast of the sample policy.
const CLIENTS: &[Profile] = &[
    Profile {
        name: "partner-a",
        purpose: "a partner, may read /partner-api/data",
        common_name: "Partner A",
        organization: "Partner A",
        unit: None,
        uri: None,
        trusted: true,
    },
    Profile {
        name: "partner-b",
        purpose: "a partner, may read /partner-api/reports",
        common_name: "Partner B",
        organization: "Partner B",
        unit: None,
        uri: None,
        trusted: true,
    },
    Profile {
        name: "alice",
        purpose: "a developer, by her role in data.json",
        common_name: "alice",
        organization: "Example",
        unit: Some("Engineering"),
        uri: None,
        trusted: true,
    },
    Profile {
        name: "operator",
        purpose: "of the unit Operations, may use /admin",
        common_name: "operator",
        organization: "Example",
        unit: Some("Operations"),
        uri: None,
        trusted: true,
    },
    Profile {
        name: "orders",
        purpose: "a workload with a SPIFFE ID, may use /orders",
        common_name: "orders",
        organization: "Example",
        unit: None,
        uri: Some("spiffe://example.com/ns/shop/sa/orders"),
        trusted: true,
    },
    Profile {
        name: "outsider",
        purpose: "calls itself Partner A, but is of another CA and is refused in the handshake",
        common_name: "Partner A",
        organization: "Partner A",
        unit: None,
        uri: None,
        trusted: false,
    },
];

/// Short, so that nobody builds on them.
const VALID_DAYS: i64 = 30;
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names() -> Vec<String> {
        SERVER_NAMES.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn keys_are_readable_by_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let pki = create(&dir.path().join("new/pki"), &names()).unwrap();
        let keys = pki.clients.iter().map(|client| &client.files.key).chain([&pki.server.key]);
        for key in keys {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
        }
        for file in fs::read_dir(dir.path().join("new/pki")).unwrap() {
            let path = file.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(
                text.contains("PRIVATE KEY"),
                path.extension().unwrap() == "key",
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn nothing_is_overwritten_or_half_written() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("partner-b.key");
        fs::write(&precious, "precious").unwrap();
        let error = create(dir.path(), &names()).unwrap_err();
        assert!(matches!(&error, PkiError::Exists(path) if *path == precious), "{error}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_cannot_stand_in_a_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = create(dir.path(), &["höst".to_owned()]).unwrap_err();
        assert!(matches!(error, PkiError::Certificate { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
