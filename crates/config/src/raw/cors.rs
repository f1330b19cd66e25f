//! `cors` of hosts and routes.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DurationText, Field, OneOrMany};

/// `cors = { ... }` of a host or a route: which pages of other origins may use it from a browser.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "cors", default, deny_unknown_fields)]
pub struct Cors {
    /// The origins, as browsers write them: scheme, host and, unless it is the scheme's own, port. `"*"` stands for all, and only
    /// without `credentials`.
    ///
    /// Required, unless there is `origin_regex`; 1 to 64. Example: `origins = ["https://app.example.com"]`.
    pub origins: Field<OneOrMany>,
    /// An expression for the whole of further origins, as `regex` of `match`.
    ///
    /// Default: none. Example: `origin_regex = "https://[a-z0-9-]+[.]app[.]example[.]com"`.
    pub origin_regex: Field<String>,
    /// The names of header fields that pages may send, beside those that browsers send anyway.
    ///
    /// Default: none; up to 64. Example: `headers = ["content-type", "x-request-id"]`.
    pub headers: Field<OneOrMany>,
    /// The names of header fields of responses that pages may read, beside those that browsers show anyway.
    ///
    /// Default: none; up to 64. Example: `expose_headers = ["etag"]`.
    pub expose_headers: Field<OneOrMany>,
    /// Whether pages may ask with credentials, which client certificates and cookies are.
    ///
    /// Default `false`. Example: `credentials = true`.
    pub credentials: Field<bool>,
    /// How long browsers may remember the answer to a preflight.
    ///
    /// Default `"5m"`; `"0s"` to `"1d"`. Example: `max_age = "1h"`.
    pub max_age: Field<DurationText>,
}
