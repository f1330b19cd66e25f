//! Certificates of ours: files, passphrases, staples.

use std::ops::Range;

use serde_spanned::Spanned;

use super::context::Context;
use crate::bounds;
use crate::model::{Certificate, NamedPath, Passphrase, StapleMode};
use crate::raw::{self, Field};

/// The certificates of a host, in the order of the file.
pub(super) fn certificates(
    cx: &mut Context<'_>,
    raw: &raw::Host,
    section: &Range<usize>,
) -> Vec<Certificate> {
    let example = "certificate = { chain = \"tls/api.pem\", key = \"tls/api.key\" }: every host speaks TLS";
    let Some(given) = cx.required("certificate", example, &raw.certificate, section) else {
        return Vec::new();
    };
    let (written, allowed) = (given.get_ref().0.len(), bounds::CERTIFICATES);
    if !allowed.contains(&written) {
        let (min, max) = (allowed.start(), allowed.end());
        cx.error(
            &given.span(),
            format!("`certificate` has {written} entries: from {min} to {max} are allowed"),
        );
    }
    let mut certificates: Vec<Certificate> = Vec::new();
    for raw in &given.get_ref().0 {
        let Some(raw) = cx.given(raw) else { continue };
        let Some(built) = certificate(cx, raw) else { continue };
        if let Some(known) = certificates.iter().find(|known| known.chain.path == built.chain.path) {
            let message =
                format!("the certificate {:?} is named at {} already", built.chain.path, cx.place(&known.at));
            cx.error(&raw.span(), message).help(
                "several certificates of a host are for several kinds of keys: each has files of its own",
            );
        }
        certificates.push(built);
    }
    certificates
}

fn certificate(cx: &mut Context<'_>, raw: &Spanned<raw::Certificate>) -> Option<Certificate> {
    let (span, files) = (raw.span(), raw.get_ref());
    let passphrase = cx.given(&files.passphrase).and_then(|text| passphrase(cx, text));
    let staple = staple(cx, &files.staple);
    let ocsp_url = cx.given(&files.ocsp_url).and_then(|text| cx.url("ocsp_url", text));
    if let (Some(span), false) = (files.ocsp_url.span(), matches!(staple, Some(StapleMode::Fetch))) {
        cx.error(&span, "`ocsp_url` has no effect, since no staple is fetched")
            .help("add staple = \"fetch\"");
    }
    let chain = cx.required("chain", "chain = \"tls/api.pem\"", &files.chain, &span);
    let key = cx.required("key", "key = \"tls/api.key\"", &files.key, &span);
    let (chain, key) = (chain?, key?);
    let chain = cx.path("chain", chain.get_ref(), &chain.span());
    let key = cx.path("key", key.get_ref(), &key.span());
    Some(Certificate { chain: chain?, key: key?, passphrase, staple: staple?, ocsp_url, at: cx.at(&span) })
}

fn staple(cx: &mut Context<'_>, field: &Field<raw::Staple>) -> Option<StapleMode> {
    let Some(given) = cx.given(field) else { return Some(StapleMode::Off) };
    Some(match given.get_ref() {
        raw::Staple::Off => StapleMode::Off,
        raw::Staple::Fetch => {
            cx.needs_state_dir(&given.span(), "staple = \"fetch\"", "the staple is kept in it");
            StapleMode::Fetch
        }
        raw::Staple::File(path) => {
            let path: Option<NamedPath> =
                cx.given(path).and_then(|path| cx.path("file", path.get_ref(), &path.span()));
            StapleMode::File(path?)
        }
    })
}

/// Where a passphrase is.
pub(super) fn passphrase(cx: &mut Context<'_>, text: &Spanned<String>) -> Option<Passphrase> {
    let Some(name) = text.get_ref().strip_prefix("credential:") else {
        return cx.path("passphrase", text.get_ref(), &text.span()).map(Passphrase::File);
    };
    // It becomes the name of a file in a directory, and must not lead out of it.
    let plain =
        name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b':'));
    if !plain || matches!(name, "" | "." | "..") || name.len() > bounds::CREDENTIAL_NAME_BYTES_MAX {
        cx.error(&text.span(), format!("`passphrase`: {name:?} is not the name of a systemd credential"))
            .help("write the name of LoadCredential= or SetCredentialEncrypted=: \"credential:api-key\"");
        return None;
    }
    Some(Passphrase::Credential { name: name.to_owned(), at: cx.at(&text.span()) })
}
