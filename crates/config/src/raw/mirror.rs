//! `mirror` of a route.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, DurationText, Field, SizeText};

/// `mirror = { ... }` of a route: copies of its requests go to another cluster as well. Clients never wait for them and never see
/// their answers, which are read and dropped.
///
/// A copy is what the upstream gets: body, identity headers and edits included, with the host that the upstream gets. So all that
/// clients send and prove goes to one more place. It leaves with the request's first try: what is refused, answered by
/// Ringward itself, or finds no connection to its own upstream is not copied. It is sent once, whatever comes of it.
/// Requests that ask for another protocol on a route with `upgrade` are not copied.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "mirror", default, deny_unknown_fields)]
pub struct Mirror {
    /// The name of the cluster that gets the copies. Its limits (`requests_max`) count; a copy does not wait for its turn there.
    ///
    /// Required; another one than those that the requests go to. Example: `cluster = "orders-next"`.
    pub cluster: Field<String>,
    /// How many percent of the requests are copied, each by chance.
    ///
    /// Default 100; 0 to 100. Example: `percent = 10`.
    pub percent: Field<Count>,
    /// How long the cluster may take for each part of a copy that it does not accept at once, and then for the whole of its answer.
    ///
    /// Default `"10s"`; `"1ms"` to `"5m"`. Example: `timeout = "2s"`.
    pub timeout: Field<DurationText>,
    /// How much of the body of a request is held for a cluster that is slower than the upstream. What is slower still gets no
    /// more of it: its copy is cut off, so that the request itself never waits.
    ///
    /// Default `"256KiB"`; `"128KiB"` to `"16MiB"`. Example: `body_held_max = "1MiB"`.
    pub body_held_max: Field<SizeText>,
    /// How many copies the cluster has under way at the same time, on the whole node; requests above it are not copied. Times
    /// `body_held_max` it bounds the memory that copies take.
    ///
    /// Default 100; 1 to 100000. Each worker has its share, rounded up. Example: `requests_max = 500`.
    pub requests_max: Field<Count>,
}
