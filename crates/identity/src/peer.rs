//! [`PeerIdentity`]: everything that is known of a peer from its certificate.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::nom::Parser;

use crate::error::{IdentityError, NamePlace};
use crate::extensions::{ExtensionValue, Extensions, SUBJECT_ALT_NAME};
use crate::forward;
use crate::name::{self, DistinguishedName, Escape};
use crate::oid::ObjectId;
use crate::san::SubjectAltNames;
use crate::spiffe::{self, SpiffeError, SpiffeId};

/// What to read beyond the fixed claims, and limits.
#[derive(Debug, Clone)]
pub struct IdentityOptions {
    /// Extensions to expose by [`PeerIdentity::extensions`]; none by default.
    pub extensions: Vec<ObjectId>,
    /// Longest `Client-Cert-Chain` value in bytes; a longer one is left out. 8 KiB by default, which is what
    /// common servers accept in one header (nginx `large_client_header_buffers`).
    pub chain_header_bytes_max: usize,
}

impl Default for IdentityOptions {
    fn default() -> Self {
        Self { extensions: Vec::new(), chain_header_bytes_max: 8 * 1024 }
    }
}

/// Who the peer of one connection is. Exists only if its chain was verified; never changes afterwards.
///
/// No list is ever ambiguous text: names that cannot be read in exactly one way refuse the certificate. Compare
/// list entries or the SPIFFE ID; [`subject`](Self::subject) is for people.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    name: String,
    subject: String,
    issuer: String,
    common_names: Vec<String>,
    organizations: Vec<String>,
    organizational_units: Vec<String>,
    organization_identifiers: Vec<String>,
    san_uris: Vec<String>,
    san_dns: Vec<String>,
    san_emails: Vec<String>,
    san_ips: Vec<IpAddr>,
    spiffe_id: Option<SpiffeId>,
    serial: String,
    fingerprint_sha256: [u8; 32],
    fingerprint_hex: String,
    not_before_unix: i64,
    not_after_unix: i64,
    chain_not_after_unix: i64,
    extended_key_usages: Vec<String>,
    policy_oids: Vec<String>,
    extensions: Vec<ExtensionValue>,
    chain_depth: usize,
    client_cert: String,
    client_cert_chain: Option<String>,
    xfcc_element: String,
    tenant: Option<Membership>,
}

/// Whose the peer is, and what it is called there.
#[derive(Clone, PartialEq, Eq)]
struct Membership {
    tenant: Arc<str>,
    identity: Box<str>,
}

impl PeerIdentity {
    /// Reads the identity of a chain that the caller has verified: leaf first, exactly as presented.
    ///
    /// Costs some ten microseconds; do it once for each connection or chain, never for each request.
    ///
    /// # Errors
    /// A certificate that is malformed, holds characters that no identity may hold, or claims to be a SPIFFE
    /// identity without being a valid one. The connection is then to be refused.
    pub fn from_verified_chain<C: AsRef<[u8]>>(
        chain: &[C],
        options: &IdentityOptions,
    ) -> Result<Self, IdentityError> {
        let (leaf_der, issuers) = chain.split_first().ok_or(IdentityError::EmptyChain)?;
        let leaf_der = leaf_der.as_ref();
        let leaf = parse(leaf_der, 0)?;
        let not_after_unix = leaf.validity().not_after.timestamp();
        let mut chain_not_after_unix = not_after_unix;
        for (index, der) in issuers.iter().enumerate() {
            let issuer = parse(der.as_ref(), index + 1)?;
            chain_not_after_unix = chain_not_after_unix.min(issuer.validity().not_after.timestamp());
        }

        let subject = DistinguishedName::parse(leaf.subject().as_raw(), NamePlace::Subject)?;
        let issuer = DistinguishedName::parse(leaf.issuer().as_raw(), NamePlace::Issuer)?;
        let extensions = Extensions::new(&leaf)?;
        let names = match extensions.id_ce(SUBJECT_ALT_NAME) {
            Some(value) => SubjectAltNames::parse(value)?,
            None => SubjectAltNames::default(),
        };
        let key_usage = extensions.key_usage()?;
        if key_usage.is_some_and(|usage| !usage.digital_signature()) {
            return Err(IdentityError::KeyUsage);
        }
        let spiffe_id = spiffe_id(&names, &extensions)?;
        let fingerprint_sha256 = sha256(leaf_der);
        let fingerprint_hex = hex(&fingerprint_sha256);
        let subject_text = subject.write(Escape::Character);

        Ok(Self {
            name: display_name(&names, &subject_text, &fingerprint_hex),
            subject: subject_text,
            issuer: issuer.write(Escape::Character),
            common_names: subject.texts(name::COMMON_NAME),
            organizations: subject.texts(name::ORGANIZATION),
            organizational_units: subject.texts(name::ORGANIZATIONAL_UNIT),
            organization_identifiers: subject.texts(name::ORGANIZATION_IDENTIFIER),
            spiffe_id,
            serial: serial(leaf.raw_serial())?,
            not_before_unix: leaf.validity().not_before.timestamp(),
            not_after_unix,
            chain_not_after_unix,
            extended_key_usages: extensions.extended_key_usages()?,
            policy_oids: extensions.policy_oids()?,
            extensions: extensions.selected(&options.extensions)?,
            chain_depth: chain.len(),
            client_cert: forward::client_cert(leaf_der),
            client_cert_chain: forward::client_cert_chain(issuers, options.chain_header_bytes_max),
            xfcc_element: forward::xfcc_element(
                &fingerprint_hex,
                &subject.write(Escape::Hex),
                &names.uris,
                &names.dns,
            ),
            fingerprint_sha256,
            fingerprint_hex,
            san_uris: names.uris,
            san_dns: names.dns,
            san_emails: names.emails,
            san_ips: names.ips,
            tenant: None,
        })
    }

    /// The same peer as a member of `tenant`, which calls it `identity`: what [`TenantMap::assign`] found.
    ///
    /// [`TenantMap::assign`]: crate::TenantMap::assign
    #[must_use]
    pub fn with_tenant(mut self, tenant: Arc<str>, identity: Box<str>) -> Self {
        self.tenant = Some(Membership { tenant, identity });
        self
    }

    /// The tenant that the peer belongs to, if it was assigned to one.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_ref().map(|membership| &*membership.tenant)
    }

    /// What its tenant calls the peer: the value of the tenant's identity source. Without a tenant, its
    /// [`name`](Self::name). Unique within a tenant only.
    pub fn identity(&self) -> &str {
        self.tenant.as_ref().map_or(&self.name, |membership| &*membership.identity)
    }

    /// What to call the peer in logs: its SPIFFE ID, else its first URI, DNS or email name, else its subject, else
    /// `sha256:` and its fingerprint. Never empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The subject as RFC 4514 text; empty if the certificate has none.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The issuer of the leaf as RFC 4514 text.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// All CN values of the subject, in certificate order. Two are legal, so one is a list too.
    pub fn common_names(&self) -> &[String] {
        &self.common_names
    }

    /// All O values of the subject, in certificate order.
    pub fn organizations(&self) -> &[String] {
        &self.organizations
    }

    /// All OU values of the subject, in certificate order.
    pub fn organizational_units(&self) -> &[String] {
        &self.organizational_units
    }

    /// All organizationIdentifier (2.5.4.97) values of the subject, in certificate order.
    pub fn organization_identifiers(&self) -> &[String] {
        &self.organization_identifiers
    }

    /// URI names, in certificate order and spelling.
    pub fn san_uris(&self) -> &[String] {
        &self.san_uris
    }

    /// DNS names, in certificate order, lower-case.
    pub fn san_dns(&self) -> &[String] {
        &self.san_dns
    }

    /// Email names, in certificate order and spelling.
    pub fn san_emails(&self) -> &[String] {
        &self.san_emails
    }

    /// IP addresses, in certificate order.
    pub fn san_ips(&self) -> &[IpAddr] {
        &self.san_ips
    }

    /// The SPIFFE ID, if the certificate is an X.509-SVID.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.spiffe_id.as_ref()
    }

    /// The serial number in lower-case hexadecimal, two digits for each octet, without leading zero octets.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// SHA-256 of the leaf's DER.
    pub fn fingerprint_sha256(&self) -> &[u8; 32] {
        &self.fingerprint_sha256
    }

    /// SHA-256 of the leaf's DER in lower-case hexadecimal.
    pub fn fingerprint_hex(&self) -> &str {
        &self.fingerprint_hex
    }

    /// When the leaf becomes valid, in seconds since 1970.
    pub fn not_before_unix(&self) -> i64 {
        self.not_before_unix
    }

    /// Until when the leaf is valid, in seconds since 1970, that second included.
    pub fn not_after_unix(&self) -> i64 {
        self.not_after_unix
    }

    /// The earliest `notAfter` of all presented certificates, in seconds since 1970.
    pub fn chain_not_after_unix(&self) -> i64 {
        self.chain_not_after_unix
    }

    /// Extended key usages of the leaf as dotted OIDs, in certificate order.
    pub fn extended_key_usages(&self) -> &[String] {
        &self.extended_key_usages
    }

    /// Certificate policies of the leaf as dotted OIDs, in certificate order.
    pub fn policy_oids(&self) -> &[String] {
        &self.policy_oids
    }

    /// The extensions that [`IdentityOptions::extensions`] selects and the leaf has, in the order of the selection.
    pub fn extensions(&self) -> &[ExtensionValue] {
        &self.extensions
    }

    /// How many certificates were presented, the leaf included.
    pub fn chain_depth(&self) -> usize {
        self.chain_depth
    }

    /// Value of the `Client-Cert` header (RFC 9440 §2.1).
    pub fn client_cert(&self) -> &str {
        &self.client_cert
    }

    /// Value of the `Client-Cert-Chain` header (RFC 9440 §2.3); `None` if only a leaf was presented or the value
    /// is longer than [`IdentityOptions::chain_header_bytes_max`].
    pub fn client_cert_chain(&self) -> Option<&str> {
        self.client_cert_chain.as_deref()
    }

    /// Value of the `x-forwarded-client-cert` header in Envoy's `SANITIZE_SET` mode, `by` being our own URI name.
    /// Allocates: keep it for the connection.
    pub fn xfcc(&self, by: Option<&str>) -> String {
        match by {
            Some(by) => forward::xfcc_with_by(by, &self.xfcc_element),
            None => self.xfcc_element.clone(),
        }
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerIdentity")
            .field("name", &self.name)
            .field("fingerprint", &self.fingerprint_hex)
            .finish_non_exhaustive()
    }
}

fn parse(der: &[u8], index: usize) -> Result<X509Certificate<'_>, IdentityError> {
    // Extensions are read by this crate, strictly; parsing them here would only cost.
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    let (rest, certificate) = parser.parse(der).map_err(|_| IdentityError::Certificate { index })?;
    if rest.is_empty() {
        Ok(certificate)
    } else {
        Err(IdentityError::StrayBytes { index, bytes: rest.len() })
    }
}

/// X509-SVID §5.2. A URI that claims the scheme makes all rules apply; nothing falls back to "no SPIFFE ID".
fn spiffe_id(
    names: &SubjectAltNames,
    extensions: &Extensions<'_, '_>,
) -> Result<Option<SpiffeId>, IdentityError> {
    let Some(claim) = names.uris.iter().find(|uri| spiffe::claims_scheme(uri)) else {
        return Ok(None);
    };
    if names.uris.len() != 1 {
        return Err(SpiffeError::SeveralUris { count: names.uris.len() }.into());
    }
    let id = SpiffeId::parse(claim)?;
    if id.path().is_empty() {
        return Err(SpiffeError::RootPath.into());
    }
    if extensions.is_authority()? {
        return Err(SpiffeError::Authority.into());
    }
    if extensions.key_usage()?.is_some_and(|usage| usage.signs_certificates_or_crls()) {
        return Err(SpiffeError::SigningKeyUsage.into());
    }
    Ok(Some(id))
}

fn display_name(names: &SubjectAltNames, subject: &str, fingerprint_hex: &str) -> String {
    // A SPIFFE ID is the only URI of its certificate, so the first URI covers it.
    let mut alternatives = names.uris.iter().chain(&names.dns).chain(&names.emails);
    match alternatives.next() {
        Some(name) => name.clone(),
        None if !subject.is_empty() => subject.to_owned(),
        None => format!("sha256:{fingerprint_hex}"),
    }
}

/// RFC 5280 §4.1.2.2 wants a positive number of at most 20 octets. Negative ones exist in old private
/// authorities; their octets are taken as they are, which is how revocation lists are searched.
fn serial(octets: &[u8]) -> Result<String, IdentityError> {
    let significant = match octets.iter().position(|&octet| octet != 0) {
        Some(first) => &octets[first..],
        None => &[0],
    };
    if significant.len() > SERIAL_BYTES_MAX {
        return Err(IdentityError::SerialTooLong { bytes: significant.len() });
    }
    Ok(hex(significant))
}

/// SHA-256 of a certificate in lower-case hexadecimal.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    hex(&sha256(der))
}

fn sha256(der: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, der);
    digest.as_ref().try_into().expect("SHA-256 has 32 octets")
}

fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = octets.iter().flat_map(|octet| [octet >> 4, octet & 0x0f]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// RFC 5280 §4.1.2.2.
const SERIAL_BYTES_MAX: usize = 20;

#[cfg(test)]
mod tests;
