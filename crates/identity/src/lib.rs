//! Reads a peer identity from a verified certificate chain and writes it into headers.
//!
//! Hides X.509, ASN.1 string types, RFC 4514 names, SPIFFE IDs and the certificate headers of RFC 9440 and
//! Envoy. Never verifies a signature, never looks at a clock, never guesses: a certificate whose names cannot be
//! read in exactly one way yields an [`IdentityError`] and no identity.
//!
//! A [`PeerIdentity`] is built once per connection. What a request needs of it (header values, lists) is
//! rendered then and borrowed afterwards. A [`TenantMap`] says which tenant it belongs to.

#![forbid(unsafe_code)]

mod der;
mod error;
mod extensions;
#[cfg(test)]
mod fixture;
mod forward;
mod forwarded;
pub mod headers;
mod name;
mod oid;
mod peer;
mod san;
mod spiffe;
mod tenant;
mod text;

pub use error::{IdentityError, NamePlace, SanKind};
pub use extensions::ExtensionValue;
pub use forwarded::{FORWARDED_CERTIFICATES_MAX, ForwardedError, chain_of_rfc9440, chain_of_xfcc};
pub use oid::{ObjectId, ObjectIdError};
pub use peer::{IdentityOptions, PeerIdentity};
pub use spiffe::{SpiffeError, SpiffeId, SpiffePattern};
pub use tenant::{
    Assignment, IdentityCondition, IdentitySource, TENANT_ERRORS_MAX, TenantDefinition, TenantError,
    TenantMap, TenantMatch, TenantRule,
};
