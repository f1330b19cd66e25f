//! Reads the few facts of a certificate that this crate checks itself or reports to an operator.
//!
//! Hides x509-parser. It decides nothing and verifies no signature: trust decisions are webpki's and the
//! callers'. What it reads may come from an unauthenticated peer, so text is made printable and is cut at a
//! limit.

use std::borrow::Cow;
use std::net::IpAddr;

use ringward_identity::SpiffeId;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use time::macros::format_description;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_PKIX_ACCESS_DESCRIPTOR_OCSP, OID_SIG_ED25519, OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_CERTIFICATE_POLICIES, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::trust::KeyKind;

/// A parsed certificate. Its signature has not been looked at.
pub(crate) struct Certificate<'a> {
    parsed: X509Certificate<'a>,
    der: &'a [u8],
}

/// What kind of public key a certificate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub(crate) kind: KeyKind,
    /// Length of the modulus of an RSA key; 0 for others, whose kind says it all.
    pub(crate) bits: usize,
}

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
        Ok(Self { parsed: certificate, der })
    }

    pub(crate) fn subject(&self) -> String {
        printable_name(self.parsed.subject())
    }

    pub(crate) fn issuer(&self) -> String {
        printable_name(self.parsed.issuer())
    }

    pub(crate) fn subject_der(&self) -> &[u8] {
        self.parsed.subject().as_raw()
    }

    pub(crate) fn issuer_der(&self) -> &[u8] {
        self.parsed.issuer().as_raw()
    }

    /// Lower-case hexadecimal, without leading zero bytes.
    pub(crate) fn serial(&self) -> String {
        hex(self.parsed.raw_serial().strip_prefix(&[0]).unwrap_or(self.parsed.raw_serial()))
    }

    /// The content octets of the serial number.
    pub(crate) fn serial_octets(&self) -> &[u8] {
        self.parsed.raw_serial()
    }

    /// All of the certificate.
    pub(crate) fn der(&self) -> &'a [u8] {
        self.der
    }

    /// The SubjectPublicKeyInfo, tag and length included.
    pub(crate) fn spki_der(&self) -> &[u8] {
        self.parsed.public_key().raw
    }

    pub(crate) fn not_before_unix(&self) -> i64 {
        self.parsed.validity().not_before.timestamp()
    }

    pub(crate) fn not_after_unix(&self) -> i64 {
        self.parsed.validity().not_after.timestamp()
    }

    /// basicConstraints cA (RFC 5280 §4.2.1.9). False if the extension is absent, an error if it is repeated.
    pub(crate) fn is_ca(&self) -> Result<bool, String> {
        let constraints = self.parsed.basic_constraints().map_err(|error| error.to_string())?;
        Ok(constraints.is_some_and(|extension| extension.value.ca))
    }

    /// The digitalSignature bit, `None` if there is no keyUsage extension (RFC 5280 §4.2.1.3).
    pub(crate) fn allows_digital_signature(&self) -> Result<Option<bool>, String> {
        let usage = self.parsed.key_usage().map_err(|error| error.to_string())?;
        Ok(usage.map(|extension| extension.value.digital_signature()))
    }

    /// The keyCertSign bit, `None` if there is no keyUsage extension.
    pub(crate) fn allows_certificate_signing(&self) -> Result<Option<bool>, String> {
        let usage = self.parsed.key_usage().map_err(|error| error.to_string())?;
        Ok(usage.map(|extension| extension.value.key_cert_sign()))
    }

    pub(crate) fn client_auth(&self) -> Result<Purpose, String> {
        let usage = self.parsed.extended_key_usage().map_err(|error| error.to_string())?;
        Ok(purpose(usage.map(|extension| extension.value.client_auth)))
    }

    pub(crate) fn server_auth(&self) -> Result<Purpose, String> {
        let usage = self.parsed.extended_key_usage().map_err(|error| error.to_string())?;
        Ok(purpose(usage.map(|extension| extension.value.server_auth)))
    }

    /// The names that TLS clients match: DNS names in lower case, and IP addresses.
    pub(crate) fn host_names(&self) -> Result<Vec<String>, String> {
        let names = self.parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        Ok(names.iter().filter_map(host_name).collect())
    }

    /// The URIs that it names.
    pub(crate) fn uris(&self) -> Vec<String> {
        let names = self.parsed.subject_alternative_name().ok().flatten();
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        names.iter().filter_map(uri).map(str::to_owned).collect()
    }

    /// The public key, if it is of a kind that TLS can verify.
    pub(crate) fn public_key(&self) -> Option<PublicKey> {
        let spki = self.parsed.public_key();
        let algorithm = &spki.algorithm;
        let curve = || algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let kind = if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            match curve()? {
                curve if curve == OID_EC_P256 => KeyKind::EcdsaP256,
                curve if curve == OID_NIST_EC_P384 => KeyKind::EcdsaP384,
                curve if curve == OID_NIST_EC_P521 => KeyKind::EcdsaP521,
                _ => return None,
            }
        } else if algorithm.algorithm == OID_SIG_ED25519 {
            KeyKind::Ed25519
        } else if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
            let Ok(x509_parser::public_key::PublicKey::RSA(key)) = spki.parsed() else { return None };
            return Some(PublicKey { kind: KeyKind::Rsa, bits: bits(key.modulus) });
        } else {
            return None;
        };
        Some(PublicKey { kind, bits: 0 })
    }

    /// The certificate policies as dotted OIDs, `None` if there is no such extension.
    pub(crate) fn policies(&self) -> Result<Option<Vec<String>>, String> {
        let extension = self.parsed.get_extension_unique(&OID_X509_EXT_CERTIFICATE_POLICIES);
        let Some(extension) = extension.map_err(|error| error.to_string())? else { return Ok(None) };
        match extension.parsed_extension() {
            ParsedExtension::CertificatePolicies(policies) => {
                Ok(Some(policies.iter().map(|policy| policy.policy_id.to_id_string()).collect()))
            }
            _ => Err("certificatePolicies cannot be read".to_owned()),
        }
    }

    /// The trust domain of the SPIFFE ID that the certificate claims, if it can be read. A claim of a stranger until the
    /// chain is verified, and to be compared with the identity then.
    pub(crate) fn claimed_trust_domain(&self) -> Option<String> {
        let names = self.parsed.subject_alternative_name().ok().flatten()?;
        let ids = names.value.general_names.iter().filter_map(uri);
        ids.filter_map(|uri| SpiffeId::parse(uri).ok()).map(|id| id.trust_domain().to_owned()).next()
    }

    /// The URIs of the CRL distribution points (RFC 5280 §4.2.1.13) of whole lists: a point that names reasons has part of
    /// a list, and one that names a CRL issuer has somebody else's.
    pub(crate) fn crl_urls(&self) -> impl Iterator<Item = &'a str> {
        let points =
            self.parsed.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
                ParsedExtension::CRLDistributionPoints(points) => Some(&points.points),
                _ => None,
            });
        let points = points.flatten().filter(|point| point.reasons.is_none() && point.crl_issuer.is_none());
        let names = points.filter_map(|point| match &point.distribution_point {
            Some(DistributionPointName::FullName(names)) => Some(names),
            _ => None,
        });
        names.flatten().filter_map(uri)
    }

    /// The URIs of OCSP responders in authorityInfoAccess (RFC 5280 §4.2.2.1).
    pub(crate) fn ocsp_urls(&self) -> impl Iterator<Item = &'a str> {
        let access =
            self.parsed.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityInfoAccess(access) => Some(&access.accessdescs),
                _ => None,
            });
        let responders =
            access.flatten().filter(|access| access.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP);
        responders.filter_map(|access| uri(&access.access_location))
    }

    /// True if the certificate demands that a TLS server staples an OCSP response: the TLS feature `status_request` (RFC
    /// 7633 §4.2.3.1). Other features are none of ours.
    pub(crate) fn requires_staple(&self) -> Result<bool, String> {
        let extension =
            self.parsed.get_extension_unique(&OID_TLS_FEATURE).map_err(|error| error.to_string())?;
        let Some(extension) = extension else { return Ok(false) };
        match Vec::<u16>::from_der(extension.value) {
            Ok(([], features)) => Ok(features.contains(&STATUS_REQUEST)),
            _ => Err("extension 1.3.6.1.5.5.7.1.24 (TLS feature) cannot be read".to_owned()),
        }
    }

    /// The first URI, DNS or e-mail name, in this order, else the subject; `None` if it has neither. What a stranger
    /// claims, made printable and cut.
    pub(crate) fn claimed_name(&self) -> Option<String> {
        let names = self.parsed.subject_alternative_name().ok().flatten();
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let first = |pick: fn(&GeneralName<'a>) -> Option<&'a str>| names.iter().find_map(pick);
        let name = first(uri)
            .or_else(|| first(|name| if let GeneralName::DNSName(dns) = name { Some(dns) } else { None }))
            .or_else(|| {
                first(|name| if let GeneralName::RFC822Name(mail) = name { Some(mail) } else { None })
            });
        match name {
            Some(name) => {
                let mut text = String::new();
                push_printable(&mut text, name);
                Some(text)
            }
            None => Some(self.subject()).filter(|subject| !subject.is_empty()),
        }
    }

    /// True if the name constraints restrict URIs, e-mail addresses or directory names, which webpki answers by refusing
    /// every certificate that has such a name; all have a directory name.
    pub(crate) fn constrains_unsupported_names(&self) -> bool {
        let Ok(Some(constraints)) = self.parsed.name_constraints() else { return false };
        let both = [&constraints.value.permitted_subtrees, &constraints.value.excluded_subtrees];
        both.into_iter().flatten().flatten().any(|subtree| {
            matches!(
                subtree.base,
                GeneralName::URI(_) | GeneralName::RFC822Name(_) | GeneralName::DirectoryName(_)
            )
        })
    }
}

/// How many bits a big-endian number has.
fn bits(number: &[u8]) -> usize {
    match number.iter().position(|octet| *octet != 0) {
        Some(first) => (number.len() - first) * 8 - number[first].leading_zeros() as usize,
        None => 0,
    }
}

fn uri<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::URI(uri) => Some(uri),
        _ => None,
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
pub(crate) fn printable_name(name: &X509Name<'_>) -> String {
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

fn push_printable(text: &mut String, value: &str) {
    for character in value.chars() {
        if text.len() >= NAME_BYTES_MAX {
            return text.push('…');
        }
        match character {
            _ if character.is_control() => text.extend(character.escape_default()),
            _ => text.push(character),
        }
    }
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

/// secp521r1 (RFC 5480 §2.1.1.1): 1.3.132.0.35.
const OID_NIST_EC_P521: Oid<'static> = Oid::new(Cow::Borrowed(&[0x2b, 0x81, 0x04, 0x00, 0x23]));

/// id-pe-tlsfeature (RFC 7633 §6): 1.3.6.1.5.5.7.1.24.
const OID_TLS_FEATURE: Oid<'static> =
    Oid::new(Cow::Borrowed(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18]));

/// The number of the TLS extension `status_request` (RFC 6066 §1.1).
const STATUS_REQUEST: u16 = 5;

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
