//! Copies of fetched revocation lists in the state directory, so that a process that starts knows what its predecessor knew,
//! even if no server answers.
//!
//! A copy is believed no more than what comes from the network: its signature is verified when it is read, by the CA
//! certificate that is kept with it, and floors hold for it too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringward_tls::{CRL_BYTES_MAX, CrlFloors, IssuerCertificate};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::floors::Floors;
use super::list::List;
use super::source::PointOf;
use crate::hex;
use crate::trust::fetch::url::Url;
use crate::trust::state::{StateDir, StateError};

/// A copy that was read.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Where it was fetched.
    pub(crate) url: Url,
    /// For whom, if certificates name it and not the configuration.
    pub(crate) point: Option<PointOf>,
    /// By which it was verified.
    pub(crate) issuer: IssuerCertificate,
    /// The list.
    pub(crate) list: List,
}

/// The first lines of a copy; what follows is the list as it was fetched.
#[derive(Serialize, Deserialize)]
struct Head {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    point: Option<PointOf>,
    /// DER in base64.
    issuer: String,
}

/// Writes a copy, durably. Blocks.
///
/// # Errors
/// What the file system said.
pub(crate) fn write(
    state: &StateDir,
    url: &Url,
    point: Option<&PointOf>,
    issuer: &IssuerCertificate,
    list: &[u8],
) -> Result<(), StateError> {
    let head = Head { url: url.to_string(), point: point.cloned(), issuer: STANDARD.encode(issuer.der()) };
    let head = serde_json::to_string(&head).expect("strings can be written as JSON");
    let mut content = format!("{MARK}\n{head}\n").into_bytes();
    content.extend_from_slice(list);
    state.write(&name(url), &content)
}

/// Removes the copy of what was fetched from `url`. Blocks.
///
/// # Errors
/// What the file system said.
pub(crate) fn remove(state: &StateDir, url: &Url) -> Result<(), StateError> {
    state.remove(&name(url))
}

/// Reads all copies. Those that are of no use any more are removed, with a word in the log: they can be fetched again. `floors`
/// learn of the others, as our predecessor may have been killed before it could tell them. Blocks.
///
/// # Errors
/// If the directory cannot be listed.
pub(crate) fn read_all(state: &StateDir, floors: &Floors, now_unix: i64) -> Result<Vec<Kept>, StateError> {
    let (mut kept, known) = (Vec::new(), floors.current());
    for name in state.names(PREFIX)?.into_iter().filter(|name| name.len() == NAME_LENGTH) {
        match read(state, &name, &known, now_unix) {
            Ok(copy) if kept.len() < COPIES_MAX => kept.push(copy),
            Ok(_) => remove_named(state, &name, "there are more copies than lists that are fetched"),
            Err(reason) => remove_named(state, &name, &reason),
        }
    }
    if let Err(error) = floors.raise(kept.iter().map(|kept| &kept.list)) {
        tracing::error!(%error, "the numbers of revocation lists cannot be remembered");
    }
    Ok(kept)
}

fn read(state: &StateDir, name: &str, floors: &CrlFloors, now_unix: i64) -> Result<Kept, String> {
    let content = state.read(name, BYTES_MAX).map_err(|error| error.to_string())?;
    let content = content.ok_or_else(|| "it is gone".to_owned())?;
    let (head, list) = split(&content).ok_or_else(|| "its first lines are not those of a copy".to_owned())?;
    let head: Head = serde_json::from_slice(head).map_err(|error| error.to_string())?;
    let url = Url::parse(&head.url).map_err(|error| error.to_string())?;
    let issuer = STANDARD.decode(&head.issuer).map_err(|error| error.to_string())?;
    let issuer =
        IssuerCertificate::from_der(&CertificateDer::from(issuer)).map_err(|error| error.to_string())?;
    let list = List::read(list, std::slice::from_ref(&issuer), floors, now_unix);
    Ok(Kept { url, point: head.point, issuer, list: list.map_err(|error| error.to_string())? })
}

fn split(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = content.strip_prefix(MARK.as_bytes())?.strip_prefix(b"\n")?;
    let end = rest.iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\n')?;
    Some((&rest[..end], &rest[end + 1..]))
}

fn remove_named(state: &StateDir, name: &str, reason: &str) {
    let path = state.path_of(name);
    tracing::warn!(file = %path.display(), reason, "a copy of a revocation list is of no use and is removed");
    if let Err(error) = state.remove(name) {
        tracing::warn!(%error, "it cannot be removed");
    }
}

/// URLs hold characters that file names cannot.
fn name(url: &Url) -> String {
    format!("{PREFIX}{}", hex::encode(&Sha256::digest(url.to_string())))
}

const PREFIX: &str = "crl-copy-";
/// With the digits of a SHA-256.
const NAME_LENGTH: usize = PREFIX.len() + 64;
const MARK: &str = "ringward crl copy 1";
/// A certificate in base64, a URL and a name.
const HEAD_BYTES_MAX: usize = 128 * 1024;
const BYTES_MAX: u64 = (CRL_BYTES_MAX + HEAD_BYTES_MAX) as u64;
/// As many as there can be sources, see [`super::sources::SOURCES_MAX`].
const COPIES_MAX: usize = super::sources::SOURCES_MAX;
