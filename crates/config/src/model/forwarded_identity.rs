//! Identities that load balancers forward.

use ringward_identity::PeerIdentity;

pub use crate::raw::ForwardedIdentityHeader;
use crate::routes::condition::Conditions;

/// Load balancers that say in a header whose requests they pass on.
#[derive(Clone, Debug)]
pub struct ForwardedIdentity {
    /// What their certificates say, of which one has to be met; at least one, each about the identity alone.
    pub from: Vec<Conditions>,
    /// What they send.
    pub header: ForwardedIdentityHeader,
    /// The names of the trust bundles for forwarded certificates, which exist; at least one, each once.
    pub trust: Vec<String>,
    /// Whether a request of anybody else with such a header is refused.
    pub refuses_others: bool,
}

impl ForwardedIdentity {
    /// Whether the verified `peer` of a connection is one of the load balancers.
    pub fn is_from(&self, peer: Option<&PeerIdentity>) -> bool {
        self.from.iter().any(|conditions| {
            // An empty one would be met by everybody.
            conditions.ask_for_identity() && conditions.are_met_by_client(peer)
        })
    }
}
