//! Delta lists: what has changed since a complete list (RFC 5280 §5.2.4).
//!
//! A delta is laid over its complete list and never merged into it, so that applying one costs nothing and
//! never needs the memory of a second complete list. What a delta does not mention is as the complete list says.

use std::sync::Arc;

use super::crl::{CrlError, CrlHead, CrlNumber, RevocationReason};
use super::index::CrlIndex;
use super::serial::Serial;
use super::serial_set::SerialSet;

/// A delta list whose signature is good.
#[derive(Debug)]
pub struct DeltaCrl {
    head: CrlHead,
    base: CrlNumber,
    set: SerialSet,
}

impl DeltaCrl {
    pub(super) fn new(head: CrlHead, base: CrlNumber, set: SerialSet) -> Self {
        Self { head, base, set }
    }

    /// What it says about itself.
    pub fn head(&self) -> &CrlHead {
        &self.head
    }

    /// The number of the complete list since which it lists all changes (BaseCRLNumber).
    pub fn base(&self) -> CrlNumber {
        self.base
    }

    /// How many entries it has.
    pub fn entries(&self) -> usize {
        self.set.len()
    }

    /// What the entries occupy.
    pub fn memory_bytes(&self) -> usize {
        self.set.memory_bytes()
    }

    pub(super) fn find(&self, serial: &Serial) -> Option<RevocationReason> {
        self.set.find(serial)
    }
}

impl CrlIndex {
    /// The complete list with this delta over it, instead of any delta that it has now.
    ///
    /// # Errors
    ///
    /// [`CrlError::DeltaMismatch`] if the delta is of another issuer or scope or not newer than the complete
    /// list (which then says everything that it says), [`CrlError::DeltaGap`] if it begins later than the
    /// complete list ends.
    pub fn with_delta(&self, delta: Arc<DeltaCrl>) -> Result<Self, CrlError> {
        let (ours, theirs) = (self.head(), delta.head());
        let mismatch = |what| Err(CrlError::DeltaMismatch { what });
        if ours.issuer != theirs.issuer {
            return mismatch("its issuer differs");
        }
        if ours.scope != theirs.scope {
            return mismatch("its issuingDistributionPoint differs");
        }
        let (Some(number), Some(delta_number)) = (ours.number, theirs.number) else {
            return mismatch("the complete list has no number");
        };
        if number >= delta_number {
            return mismatch("the complete list is as new as it");
        }
        if delta.base > number {
            return Err(CrlError::DeltaGap { base: delta.base, number });
        }
        Ok(self.under(delta))
    }
}

#[cfg(test)]
mod tests;
