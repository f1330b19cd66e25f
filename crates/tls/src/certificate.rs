//! Reads the few facts of a certificate that this crate checks itself or reports to an operator.
//!
//! Hides x509-parser. It decides nothing and verifies no signature: trust decisions are webpki's and the
//! callers'. What it reads may come from an unauthenticated peer, so text is made printable and is cut at a
//! limit.

use std::net::IpAddr;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use time::macros::format_description;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// A parsed certificate. Its signature has not been looked at.
pub(crate) struct Certificate<'a>(X509Certificate<'a>);

/// What an extendedKeyUsage extension says about one purpose (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The certificate has no such extension.
    Unrestricted,
    /// The purpose is listed. `anyExtendedKeyUsage` does not count as listing it.
    Listed,
    /// There is an extension, and it does not list the purpose.
    NotListed,
}

impl<'a> Certificate<'a> {
    /// Parses a whole DER certificate; trailing bytes are an error.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, String> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow the certificate", rest.len()));
        }
        // One that x509-parser cannot read would otherwise look like an absent one. Others are none of our
        // business.
        for extension in
            certificate.extensions().iter().filter(|extension| DECISIVE_EXTENSIONS.contains(&extension.oid))
        {
            if let ParsedExtension::ParseError { .. } = extension.parsed_extension() {
                return Err(format!("extension {} cannot be read", extension.oid.to_id_string()));
            }
        }
        Ok(Self(certificate))
    }

    pub(crate) fn subject(&self) -> String {
        printable_name(self.0.subject())
    }

    pub(crate) fn issuer(&self) -> String {
        printable_name(self.0.issuer())
    }

    pub(crate) fn subject_der(&self) -> &[u8] {
        self.0.subject().as_raw()
    }

    pub(crate) fn issuer_der(&self) -> &[u8] {
        self.0.issuer().as_raw()
    }

    /// Lower-case hexadecimal, without leading zero bytes.
    pub(crate) fn serial(&self) -> String {
        hex(self.0.raw_serial().strip_prefix(&[0]).unwrap_or(self.0.raw_serial()))
    }

    pub(crate) fn not_before_unix(&self) -> i64 {
        self.0.validity().not_before.timestamp()
    }

    pub(crate) fn not_after_unix(&self) -> i64 {
        self.0.validity().not_after.timestamp()
    }

    /// basicConstraints cA (RFC 5280 §4.2.1.9). False if the extension is absent, an error if it is repeated.
    pub(crate) fn is_ca(&self) -> Result<bool, String> {
        let constraints = self.0.basic_constraints().map_err(|error| error.to_string())?;
        Ok(constraints.is_some_and(|extension| extension.value.ca))
    }

    /// The digitalSignature bit, `None` if there is no keyUsage extension (RFC 5280 §4.2.1.3).
    pub(crate) fn allows_digital_signature(&self) -> Result<Option<bool>, String> {
        let usage = self.0.key_usage().map_err(|error| error.to_string())?;
        Ok(usage.map(|extension| extension.value.digital_signature()))
    }

    /// The keyCertSign bit, `None` if there is no keyUsage extension.
    pub(crate) fn allows_certificate_signing(&self) -> Result<Option<bool>, String> {
        let usage = self.0.key_usage().map_err(|error| error.to_string())?;
        Ok(usage.map(|extension| extension.value.key_cert_sign()))
    }

    pub(crate) fn client_auth(&self) -> Result<Purpose, String> {
        let usage = self.0.extended_key_usage().map_err(|error| error.to_string())?;
        Ok(purpose(usage.map(|extension| extension.value.client_auth)))
    }

    pub(crate) fn server_auth(&self) -> Result<Purpose, String> {
        let usage = self.0.extended_key_usage().map_err(|error| error.to_string())?;
        Ok(purpose(usage.map(|extension| extension.value.server_auth)))
    }

    /// The names that TLS clients match: DNS names in lower case, and IP addresses.
    pub(crate) fn host_names(&self) -> Result<Vec<String>, String> {
        let names = self.0.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        Ok(names.iter().filter_map(host_name).collect())
    }

    /// True if the name constraints restrict URIs or e-mail addresses, which webpki answers by refusing every
    /// certificate that has such a name.
    pub(crate) fn constrains_unsupported_names(&self) -> bool {
        let Ok(Some(constraints)) = self.0.name_constraints() else { return false };
        let both = [&constraints.value.permitted_subtrees, &constraints.value.excluded_subtrees];
        both.into_iter()
            .flatten()
            .flatten()
            .any(|subtree| matches!(subtree.base, GeneralName::URI(_) | GeneralName::RFC822Name(_)))
    }
}

fn host_name(name: &GeneralName<'_>) -> Option<String> {
    match *name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
            16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn purpose(listed: Option<bool>) -> Purpose {
    match listed {
        None => Purpose::Unrestricted,
        Some(true) => Purpose::Listed,
        Some(false) => Purpose::NotListed,
    }
}

/// All certificates of a PEM file, or the one of a DER file, each with its own error.
///
/// Other PEM sections (keys, comments, parameters) are skipped.
pub(crate) fn read_certificates(bytes: &[u8]) -> Vec<Result<CertificateDer<'static>, pem::Error>> {
    // PEM is text; a DER certificate starts with the tag of a SEQUENCE and a long-form length.
    if let [0x30, 0x81..=0x83, ..] = bytes {
        return vec![Ok(CertificateDer::from(bytes.to_vec()))];
    }
    CertificateDer::pem_slice_iter(bytes).collect()
}

/// True if `bytes` hold a PEM section of a private key, whatever its kind.
pub(crate) fn holds_private_key(bytes: &[u8]) -> bool {
    contains(bytes, b"PRIVATE KEY-----")
}

pub(crate) fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// A time as `2026-01-31 23:59:59Z`, for messages.
pub(crate) fn format_unix(seconds: i64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    let formatted =
        OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(format).ok());
    formatted.unwrap_or_else(|| format!("{seconds} s since 1970"))
}

/// Seconds since the epoch in the signed form that certificates are compared in.
pub(crate) fn unix_seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
    }
    text
}

/// A distinguished name by RFC 4514: most specific part first, special characters escaped. Control characters
/// are escaped too, and the whole is cut at [`NAME_BYTES_MAX`], as a peer chose it.
fn printable_name(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for part in parts.into_iter().rev() {
        for (position, attribute) in part.iter().enumerate() {
            if text.len() >= NAME_BYTES_MAX {
                text.push('…');
                return text;
            }
            let separator = if position > 0 { "+" } else { "," };
            text.push_str(if text.is_empty() { "" } else { separator });
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(short) => text.push_str(short),
                Err(_) => text.push_str(&attribute.attr_type().to_id_string()),
            }
            text.push('=');
            push_escaped(&mut text, attribute.as_str().unwrap_or("(not shown)"));
        }
    }
    text
}

fn push_escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        if text.len() >= NAME_BYTES_MAX {
            return;
        }
        match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => text.extend(['\\', character]),
            _ if character.is_control() => text.extend(character.escape_default()),
            _ => text.push(character),
        }
    }
}

/// The extensions that this module answers questions about.
const DECISIVE_EXTENSIONS: &[Oid<'static>] = &[
    OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_EXTENDED_KEY_USAGE,
    OID_X509_EXT_NAME_CONSTRAINTS,
    OID_X509_EXT_SUBJECT_ALT_NAME,
];

/// Longest name shown to an operator, in bytes. A peer may present a subject of 16 KiB, and a log line should
/// not be.
const NAME_BYTES_MAX: usize = 512;
