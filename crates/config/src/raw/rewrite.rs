//! `rewrite` of a route.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Field;

/// `rewrite = { ... }` of a route: the path or the host that the upstream gets instead of those that the client has asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "rewrite", default, deny_unknown_fields)]
pub struct Rewrite {
    /// The path: a template in which `{host}`, `{path}` and the names in the route's path stand for what they are in the request.
    /// The query goes with it, unchanged.
    ///
    /// Default: the path of the request; up to 2048 bytes. Example: `path = "/v2/{id}/{rest}"`.
    pub path: Field<String>,
    /// Instead of `path`, what stands in place of all that comes before the first name in the route's path, or of the whole path
    /// if it has none.
    ///
    /// Default: none. Example: `prefix = "/"`, which makes `/orders/7` of `/api/orders/7` in a route for `/api/{rest...}`.
    pub prefix: Field<String>,
    /// The host, with or without a port: `Host`, or `:authority` in HTTP/2. `X-Forwarded-Host` and `Forwarded` still have the one
    /// that was asked for.
    ///
    /// Default: the host of the request. Example: `host = "orders.internal:8080"`.
    pub host: Field<String>,
}
