//! Which certificates of its issuer a list is about (issuingDistributionPoint, RFC 5280 §5.2.5).

use super::super::der::{Malformed, Reader, SEQUENCE, context, context_constructed, read_bool};
use super::CrlError;
use crate::digest::sha256;

/// Which certificates of its issuer a list is about.
///
/// A CA may split its list: by whether certificates are of CAs, and by distribution point. A list says nothing
/// about a certificate outside its scope, neither that it is revoked nor that it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrlScope {
    /// By kind of certificate.
    pub kinds: CertificateKinds,
    /// The URIs of its distribution point. Empty: all certificates of those kinds. Else: those that name one of
    /// the URIs as theirs.
    pub distribution_points: Box<[Box<str>]>,
    /// SHA-256 of the extension, zeros without it: equal for lists of the same scope.
    pub digest: [u8; 32],
}

/// Kinds of certificates that a list is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateKinds {
    /// All.
    #[default]
    All,
    /// Those of end entities (onlyContainsUserCerts).
    EndEntities,
    /// Those of CAs (onlyContainsCACerts).
    Authorities,
}

impl CrlScope {
    pub(super) fn read(value: &[u8]) -> Result<Self, CrlError> {
        let malformed = |Malformed| CrlError::Malformed { what: "issuingDistributionPoint" };
        let mut fields = Reader::inside(value, SEQUENCE).map_err(malformed)?;
        let point = fields.optional(context_constructed(0)).map_err(malformed)?;
        let users = flag(&mut fields, 1).map_err(malformed)?;
        let authorities = flag(&mut fields, 2).map_err(malformed)?;
        let some_reasons = fields.optional(context(3)).map_err(malformed)?.is_some();
        let indirect = flag(&mut fields, 4).map_err(malformed)?;
        let attributes = flag(&mut fields, 5).map_err(malformed)?;
        fields.finish().map_err(malformed)?;
        if indirect {
            return Err(CrlError::Indirect);
        }
        if some_reasons {
            return Err(CrlError::SomeReasons);
        }
        if attributes {
            return Err(CrlError::AttributeCertificates);
        }
        let distribution_points = match point {
            None => Box::default(),
            Some(name) => {
                let mut urls = Vec::new();
                point_name_urls(name, &mut urls).map_err(malformed)?;
                // RFC 5280 §6.3.3 (b)(2)(i): a certificate is within scope if one of its names is among these,
                // and names that are no URIs are kept for no certificate.
                if urls.is_empty() {
                    return Err(CrlError::DistributionPoint);
                }
                urls.into()
            }
        };
        let kinds = match (users, authorities) {
            (false, false) => CertificateKinds::All,
            (true, false) => CertificateKinds::EndEntities,
            (false, true) => CertificateKinds::Authorities,
            (true, true) => return Err(malformed(Malformed)),
        };
        Ok(Self { kinds, distribution_points, digest: sha256(value) })
    }
}

/// The URIs of distribution points (cRLDistributionPoints, freshestCRL; RFC 5280 §4.2.1.13) that are about all
/// reasons and about lists of the certificate's own issuer. None if the extension cannot be read.
pub(super) fn distribution_point_urls(value: &[u8]) -> Box<[Box<str>]> {
    let mut urls = Vec::new();
    let mut read = || {
        let mut points = Reader::inside(value, SEQUENCE)?;
        while !points.is_empty() {
            let mut point = Reader::new(points.expect(SEQUENCE)?);
            let name = point.optional(context_constructed(0))?;
            // What is left are reasons or cRLIssuer.
            if let (Some(name), true) = (name, point.is_empty()) {
                point_name_urls(name, &mut urls)?;
            }
        }
        Ok(())
    };
    match read() {
        Ok(()) => urls.into(),
        Err(Malformed) => Box::default(),
    }
}

/// Appends the URIs of a DistributionPointName. One relative to the issuer's name has none.
fn point_name_urls(name: &[u8], urls: &mut Vec<Box<str>>) -> Result<(), Malformed> {
    let mut choice = Reader::new(name);
    let element = choice.any()?;
    choice.finish()?;
    if element.tag != context_constructed(0) {
        return Ok(());
    }
    let mut names = Reader::new(element.content);
    while !names.is_empty() {
        let name = names.any()?;
        if name.tag == context(URI) && urls.len() < URLS_MAX {
            urls.push(std::str::from_utf8(name.content).map_err(|_| Malformed)?.into());
        }
    }
    Ok(())
}

fn flag(fields: &mut Reader<'_>, number: u8) -> Result<bool, Malformed> {
    fields.optional(context(number))?.map_or(Ok(false), read_bool)
}

/// uniformResourceIdentifier of a GeneralName (RFC 5280 §4.2.1.6).
const URI: u8 = 6;
/// URIs of one extension that are kept; a CA gives one or two for each point.
const URLS_MAX: usize = 32;
