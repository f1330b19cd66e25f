//! `split` of a route.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_spanned::Spanned;

use super::{Count, Field, HashKey};

/// `split = { ... }` of a route: its requests are divided among clusters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "split", default, deny_unknown_fields)]
pub struct Split {
    /// The names of the clusters, each with its part of the requests in proportion to the others. A cluster of weight 0 gets none.
    ///
    /// Required; 2 to 16 clusters, weights from 0 to 10000, not all 0. Example: `weights = { orders = 95, orders-next = 5 }`.
    #[schemars(with = "BTreeMap<String, u64>")]
    pub weights: Field<BTreeMap<Spanned<String>, Field<Count>>>,
    /// The property of a request by which its cluster is chosen, as for `maglev` of a cluster: requests that have it in common come
    /// to the same cluster, on every worker and every node. When weights change, no more requests change their cluster than the
    /// weights ask for: those of a cluster whose weight grows stay. Requests without the property are divided at random.
    ///
    /// Default: none, all are divided at random. Example: `by = { identity = "spiffe_id" }`, `by = { header = "x-user" }`,
    /// `by = "source_address"`.
    pub by: Field<HashKey>,
}
