//! Our own certificates: chains, keys, what opens them, and the staples that lie beside them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringward_config::{Certificate, FileKind, Host, HostPattern, NamedPath, Passphrase, StapleMode};
use ringward_tls::{Credential, CredentialError, CredentialOptions, CredentialSource, Staple, StapleError};
use rustls::pki_types::UnixTime;

use super::files::Files;
use super::{Report, list};

/// The certificates of a host, those that are good. Staples of files are added to `staples`; one that is bad is replaced by
/// that of `previous`.
pub(super) fn load(
    host: &Host,
    files: &Files,
    previous: &HashMap<[u8; 32], Arc<Staple>>,
    staples: &mut HashMap<[u8; 32], Arc<Staple>>,
    report: &mut Report<'_>,
) -> Vec<Arc<Credential>> {
    let mut loaded = Vec::new();
    for certificate in &host.certificates {
        let Some(credential) = credential(host, certificate, files, report) else { continue };
        let last = previous.get(credential.fingerprint_sha256());
        if let Some(staple) = staple(certificate, &credential, files, last, report) {
            staples.insert(*credential.fingerprint_sha256(), staple);
        }
        loaded.push(Arc::new(credential));
    }
    loaded
}

fn credential(
    host: &Host,
    certificate: &Certificate,
    files: &Files,
    report: &mut Report<'_>,
) -> Option<Credential> {
    let Certificate { chain, key, at, .. } = certificate;
    let mut content = |named: &NamedPath, kind| {
        files.content(&named.path, kind).inspect_err(|error| report.file(&named.at, error)).ok()
    };
    let (chain_pem, key_pem) =
        (content(chain, FileKind::CertificateChain), content(key, FileKind::PrivateKey));
    let (chain_pem, key_pem) = (chain_pem?, key_pem?);
    let passphrase = match &certificate.passphrase {
        None => None,
        Some(passphrase) => Some(read_passphrase(passphrase, files, report)?),
    };
    let source = CredentialSource { chain_file: &chain.path, chain_pem, key_file: &key.path, key_pem };
    let allow_expired = host.danger_allow_expired_certificate;
    let options = CredentialOptions { allow_expired, passphrase, ..CredentialOptions::default() };
    let credential = Credential::from_pem(&source, options, UnixTime::now())
        .inspect_err(|error| match error {
            CredentialError::KeyMismatch { .. } => report.torn(at, error.to_string()),
            _ => report.error(at, error.to_string(), None),
        })
        .ok()?;
    for warning in credential.warnings() {
        report.warning(&chain.at, warning.to_string());
    }
    let names: Vec<String> = host.names.iter().map(HostPattern::to_string).collect();
    let uncovered = credential.uncovered(names.iter().map(String::as_str));
    if !uncovered.is_empty() {
        let message = format!(
            "the certificate in `{}` is not for {}: clients that ask for it will refuse the connection; it is for {}",
            chain.path.display(),
            list(&uncovered),
            list(credential.names()),
        );
        // With none of the names it is the wrong file. With some it may be a name that only default_host answers.
        if uncovered.len() == names.len() && !credential.names().is_empty() {
            let help = "use a certificate for these names, or correct `names`".to_owned();
            report.error(&chain.at, message, Some(help));
            return None;
        }
        report.warning(&chain.at, message);
    }
    Some(credential)
}

/// The staple that lies in a file beside the certificate. Instead of one that cannot be shown the last good one is, until it
/// ends; then none, since a client is better served without, unless the certificate demands one.
fn staple(
    certificate: &Certificate,
    credential: &Credential,
    files: &Files,
    last: Option<&Arc<Staple>>,
    report: &mut Report<'_>,
) -> Option<Arc<Staple>> {
    let named = match &certificate.staple {
        StapleMode::File(named) => named,
        StapleMode::Fetch => return None,
        StapleMode::Off if credential.requires_staple() => {
            let message = format!(
                "the certificate in `{}` demands an OCSP staple (RFC 7633), and it is to have none: clients would refuse it",
                certificate.chain.path.display()
            );
            let help = "add staple = \"fetch\", or use a certificate without the TLS feature status_request";
            report.error(&certificate.chain.at, message, Some(help.to_owned()));
            return None;
        }
        StapleMode::Off => return None,
    };
    let content = files.content(&named.path, FileKind::StapleFile);
    let content = content.inspect_err(|error| report.file(&named.at, error)).ok()?;
    let now_unix = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let error = match Staple::verify(content, credential, now_unix) {
        Ok(staple) => return Some(Arc::new(staple)),
        Err(error) => error,
    };
    let message = format!("`{}`: {error}", named.path.display());
    // That we are revoked is an answer, and newer than the last one.
    let is_answer = matches!(error, StapleError::Revoked { .. });
    let last = last.filter(|staple| !is_answer && now_unix < staple.usable_until_unix());
    match last {
        Some(_) => report.warning(&named.at, format!("{message}; the last good one is shown until it ends")),
        None if credential.requires_staple() => report.error(&named.at, message, None),
        None => report.warning(&named.at, message),
    }
    last.cloned()
}

/// What opens an encrypted key: the first line of a file.
pub(super) fn read_passphrase<'f>(
    passphrase: &Passphrase,
    files: &'f Files,
    report: &mut Report<'_>,
) -> Option<&'f [u8]> {
    let (path, at) = match passphrase {
        Passphrase::File(named) => (named.path.clone(), &named.at),
        Passphrase::Credential { name, at } => match credential_path(name) {
            Some(path) => (path, at),
            None => {
                let message =
                    format!("there is no systemd credential `{name}`: CREDENTIALS_DIRECTORY is not set");
                let help = format!("run under systemd with `LoadCredentialEncrypted={name}`, or name a file");
                report.error(at, message, Some(help));
                return None;
            }
        },
    };
    let content =
        files.content(&path, FileKind::Passphrase).inspect_err(|error| report.file(at, error)).ok()?;
    // As other programs read such files: editors end them with a line feed, which nobody means.
    let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        report.error(at, format!("`{}` holds no passphrase in its first line", path.display()), None);
        return None;
    }
    Some(line)
}

/// Where systemd puts a credential of this process (systemd.exec(5), `LoadCredential=`).
pub(super) fn credential_path(name: &str) -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(name))
}
