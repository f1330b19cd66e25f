//! What is known of a client as plain texts, for engines that know no values of Rego.

use crate::input::subject::Claims;

/// The names of a client; none without a verified chain. Made once per connection.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) verified: bool,
    pub(crate) tenant: Box<str>,
    /// What the tenant calls the client, so nothing without the tenant; its name if it has none.
    pub(crate) identity: Box<str>,
    pub(crate) spiffe_id: Box<str>,
    pub(crate) fingerprint_sha256: Box<str>,
    pub(crate) common_names: Box<[String]>,
    pub(crate) organizations: Box<[String]>,
    pub(crate) organizational_units: Box<[String]>,
    pub(crate) uris: Box<[String]>,
    pub(crate) dns: Box<[String]>,
    pub(crate) emails: Box<[String]>,
}

impl Facts {
    pub(crate) fn of(claims: &Claims<'_>) -> Self {
        Self {
            verified: claims.verified,
            tenant: claims.tenant.into(),
            identity: claims.identity.into(),
            spiffe_id: claims.spiffe_id.into(),
            fingerprint_sha256: claims.fingerprint_sha256.into(),
            common_names: claims.common_names.as_ref().into(),
            organizations: claims.organizations.as_ref().into(),
            organizational_units: claims.organizational_units.as_ref().into(),
            uris: claims.uris.as_ref().into(),
            dns: claims.dns.as_ref().into(),
            emails: claims.emails.as_ref().into(),
        }
    }
}
