//! `request_headers` and `response_headers`, of hosts and of routes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_spanned::Spanned;

use super::{Field, OneOrMany};

/// `request_headers = { ... }` and `response_headers = { ... }` of a host or a route: header fields that are changed on the way.
/// What a route says of a field replaces what its host says of it; of all other fields the host's word counts too.
///
/// Policies see requests as clients have sent them, and have the last word: what a policy sets or removes of a request replaces
/// what stands here, and what it adds to a response comes beside it.
///
/// Refused are the names by which upstreams learn of the client's certificate, what `forward` sets, and fields of the connection
/// and the message's framing, in any spelling. Trailers and interim responses get no fields.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "header edits", default, deny_unknown_fields)]
pub struct HeaderEdits {
    /// Fields that replace all of their name, also those that are spelled with `_` for `-`.
    ///
    /// Values are templates: `{host}`, `{path}`, `{query}` (with its `?`), `{request.method}`, `{request.id}`, `{client.ip}`, in a
    /// route the names in its path, and what the verified certificate of the client says: `{client.identity}`, `{client.name}`,
    /// `{client.tenant}`, `{client.spiffe_id}`, `{client.trust_domain}`, `{client.subject}`, `{client.common_name}` (if there is
    /// one only), `{client.issuer}`, `{client.serial}`, `{client.fingerprint_sha256}`. `{{` and `}}` are braces. Path and query are
    /// what the client has sent. A field with a place that has nothing to stand for, because the client is nobody or has no tenant,
    /// is not written, and what the client has sent under its name is removed all the same. A request whose value would have
    /// anything else than visible ASCII and blanks gets 500 with the flag `bad_header_value`, and one whose value would have more
    /// than 8192 bytes 431 with `header_value_too_long`.
    ///
    /// Default: none; up to 32, values up to 1024 bytes with up to 8 places. Example: `set = { "x-tenant" = "{client.tenant}" }`.
    #[schemars(with = "BTreeMap<String, String>")]
    pub set: Field<BTreeMap<Spanned<String>, Field<String>>>,
    /// Fields that come beside those of their name.
    ///
    /// Default: none; as for `set`. Example: `append = { "cache-status" = "ringward; fwd=miss" }`.
    #[schemars(with = "BTreeMap<String, String>")]
    pub append: Field<BTreeMap<Spanned<String>, Field<String>>>,
    /// Names of fields that are removed, spelled with `_` for `-` as well.
    ///
    /// Default: none; up to 32. Example: `remove = ["server", "x-powered-by"]`.
    pub remove: Field<OneOrMany>,
}
