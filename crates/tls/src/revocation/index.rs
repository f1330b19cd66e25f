//! The serial numbers that one issuer has revoked, as workers ask for them.
//!
//! Hides whether they come from one list or from a list and its delta. Immutable, shared by all hosts and
//! workers, and cheap to drop.

use std::sync::Arc;

use super::crl::{CertificateKinds, CrlHead, RevocationReason};
use super::delta::DeltaCrl;
use super::serial::Serial;
use super::serial_set::SerialSet;

/// What an issuer has revoked within one scope: its complete list, and perhaps a delta over it.
#[derive(Clone, Debug)]
pub struct CrlIndex {
    head: CrlHead,
    complete: Arc<SerialSet>,
    delta: Option<Arc<DeltaCrl>>,
}

impl CrlIndex {
    pub(super) fn new(head: CrlHead, set: SerialSet) -> Self {
        Self { head, complete: Arc::new(set), delta: None }
    }

    /// The same list with what `delta` says has changed, instead of any delta that was applied before.
    pub(super) fn under(&self, delta: Arc<DeltaCrl>) -> Self {
        Self { head: self.head.clone(), complete: self.complete.clone(), delta: Some(delta) }
    }

    /// Why the certificate is revoked, `None` if it is not. Does not allocate.
    pub fn find(&self, serial: &Serial) -> Option<RevocationReason> {
        let Some(delta) = &self.delta else { return self.complete.find(serial) };
        match delta.find(serial) {
            Some(RevocationReason::RemoveFromCrl) => {
                // RFC 5280 §5.3.1: only a suspension can be lifted. For any other reason the entry is removed
                // because the certificate has expired, and then it is not admitted anyway.
                let reason = self.complete.find(serial);
                reason.filter(|reason| *reason != RevocationReason::CertificateHold)
            }
            Some(reason) => Some(reason),
            None => self.complete.find(serial),
        }
    }

    /// What the complete list says about itself.
    pub fn head(&self) -> &CrlHead {
        &self.head
    }

    /// The delta that is applied, if one is.
    pub fn delta(&self) -> Option<&Arc<DeltaCrl>> {
        self.delta.as_ref()
    }

    /// Until when this is known to be the current state, seconds since 1970; from then on it is stale. With a
    /// delta the delta's, as RFC 5280 §5.2.4 has it: its CA makes deltas because it revokes more often than
    /// that.
    pub fn next_update_unix(&self) -> i64 {
        self.delta.as_ref().map_or(self.head.next_update_unix, |delta| delta.head().next_update_unix)
    }

    /// How many entries there are, those of a delta included.
    pub fn entries(&self) -> usize {
        self.complete.len() + self.delta.as_ref().map_or(0, |delta| delta.entries())
    }

    /// What the entries occupy.
    pub fn memory_bytes(&self) -> usize {
        self.complete.memory_bytes() + self.delta.as_ref().map_or(0, |delta| delta.memory_bytes())
    }

    /// Whether the list is about certificates of this kind.
    pub(super) fn is_about(&self, authority: bool) -> bool {
        match self.head.scope.kinds {
            CertificateKinds::All => true,
            CertificateKinds::EndEntities => !authority,
            CertificateKinds::Authorities => authority,
        }
    }
}
