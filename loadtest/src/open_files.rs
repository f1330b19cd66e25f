//! How many files this process, and all that it starts, may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to so many, if it is lower.
///
/// # Errors
/// How many are allowed, if that is fewer.
pub(crate) fn allow(needed: u64) -> Result<(), u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|_| limit.maximum.or(limit.current).unwrap_or(0))
}

/// Standard streams, the runtime's own and connections that are being closed.
pub(crate) const OTHERS: u64 = 64;
