//! Whether the certificates of a file are one chain, from the leaf upwards, and what to do if not.

use super::{CredentialError, CredentialSource};
use crate::certificate::Certificate;

/// Checks the order by names. Signatures are checked elsewhere.
///
/// `leaf` is the position of the certificate that the key belongs to.
pub(super) fn check_order(
    chain: &[Certificate<'_>],
    leaf: usize,
    source: &CredentialSource<'_>,
) -> Result<(), CredentialError> {
    let path = path_from(chain, leaf);
    let file = || source.chain_file.to_owned();
    let stray = (0..chain.len()).find(|position| !path.contains(position));
    let end = path[path.len() - 1];
    match stray {
        None if path.is_sorted() => Ok(()),
        None => {
            let order = path.iter().map(|&index| (index + 1, chain[index].subject())).collect();
            Err(CredentialError::OutOfOrder { file: file(), order })
        }
        Some(stray) if is_self_issued(&chain[end]) || names_one_of(&chain[stray], &path, chain) => {
            Err(CredentialError::StrayCertificate {
                file: file(),
                position: stray + 1,
                subject: chain[stray].subject(),
            })
        }
        Some(stray) => Err(CredentialError::BrokenChain {
            file: file(),
            position: end + 1,
            issuer: chain[end].issuer(),
            stray: stray + 1,
            stray_subject: chain[stray].subject(),
        }),
    }
}

/// From the leaf to its issuer, to that one's issuer, and so on as far as they are in the file.
fn path_from(chain: &[Certificate<'_>], leaf: usize) -> Vec<usize> {
    let mut path = vec![leaf];
    loop {
        let last = path[path.len() - 1];
        if is_self_issued(&chain[last]) {
            return path;
        }
        let issues =
            |index: &usize| !path.contains(index) && chain[*index].subject_der() == chain[last].issuer_der();
        // The one that follows first: of two with one name, as CAs have that are signed by several others, it is meant.
        let mut following = (last + 1..chain.len()).chain(0..last);
        match following.find(issues) {
            Some(next) => path.push(next),
            None => return path,
        }
    }
}

fn is_self_issued(certificate: &Certificate<'_>) -> bool {
    certificate.issuer_der() == certificate.subject_der()
}

/// True if there is one with the same name in the path.
fn names_one_of(certificate: &Certificate<'_>, path: &[usize], chain: &[Certificate<'_>]) -> bool {
    path.iter().any(|&index| chain[index].subject_der() == certificate.subject_der())
}
