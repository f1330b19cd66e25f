//! The places where operating systems keep the CAs of the public web.
//!
//! As trust for clients they would admit everybody who can get a web certificate, which is everybody, so they are refused there. Paths are
//! compared as they are written; nothing is read. For upstreams, whose name is verified besides, they are good.

use std::ffi::OsString;
use std::path::{Component, Path};

/// Whether a path names a bundle of public web CAs, or a directory that holds one.
pub(crate) fn is_system_bundle(path: &Path) -> bool {
    let path = lexically_normal(path);
    let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap_or_default()).collect();
    let under = |place: &&str| {
        let place: Vec<&str> = place.split('/').filter(|part| !part.is_empty()).collect();
        parts.starts_with(&place)
    };
    let exactly = |place: &&str| place.split('/').filter(|part| !part.is_empty()).eq(parts.iter().copied());
    parts.last().is_some_and(|name| BUNDLE_NAMES.contains(name))
        || BUNDLE_PLACES.iter().any(under)
        || BUNDLE_PARENTS.iter().any(exactly)
}

/// The bundle of the operating system that this runs on.
pub(crate) fn system_bundle() -> Option<&'static str> {
    SYSTEM_BUNDLES.iter().copied().find(|path| Path::new(path).is_file())
}

/// The path without `.` and `..`, as far as text can tell.
fn lexically_normal(path: &Path) -> Vec<OsString> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
            Component::ParentDir => {
                parts.pop();
            }
            Component::Normal(part) => parts.push(part.to_owned()),
        }
    }
    parts
}

/// Where Debian, Red Hat, SUSE and Alpine, in this order, keep all of them in one file.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Files that are such a bundle wherever they are: Debian, Red Hat, SUSE and Alpine write them under these names.
const BUNDLE_NAMES: &[&str] =
    &["ca-certificates.crt", "ca-bundle.crt", "ca-bundle.trust.crt", "ca-bundle.pem", "tls-ca-bundle.pem"];

/// Everything in and below these.
const BUNDLE_PLACES: &[&str] = &[
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/etc/openssl/certs",
    "/usr/share/ca-certificates",
    "/usr/share/pki",
    "/usr/lib/ssl/certs",
    "/usr/lib/ssl/cert.pem",
    "/usr/local/share/certs",
    "/usr/local/etc/ssl/cert.pem",
    "/var/lib/ca-certificates",
    "/system/etc/security/cacerts",
];

/// Directories that hold a bundle directly: named as a directory, its files would be read.
const BUNDLE_PARENTS: &[&str] = &["/etc/ssl", "/etc/pki/tls", "/usr/lib/ssl", "/usr/local/etc/ssl"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_bundles_are_recognised_however_they_are_written() {
        for path in [
            "/etc/ssl/certs",
            "/etc/ssl/certs/",
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/ssl/certs/ISRG_Root_X1.pem",
            "/etc/./ssl//certs",
            "/etc/ringward/../ssl/certs",
            "/etc/ssl",
            "/etc/ssl/cert.pem",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
            "/var/lib/ca-certificates",
            "trust/ca-certificates.crt",
        ] {
            assert!(is_system_bundle(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn own_bundles_are_not() {
        for path in [
            "/etc/ringward/trust",
            "/etc/ssl/partners",
            "/etc/ssl/private-ca.pem",
            "/etc/ssl/certs-of-partners",
            "/etc/pki/partners.pem",
            "trust/cert.pem",
            "/srv/etc/ssl/certs",
            "",
            "/",
        ] {
            assert!(!is_system_bundle(Path::new(path)), "{path}");
        }
    }
}
