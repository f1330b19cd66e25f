//! Which sessions a ClientHello offers to resume, as far as it matters who comes first.
//!
//! What is read here is believed in nothing: rustls reads the same bytes again and decides. A wrong answer would let a client wait
//! that need not, or go before others.

/// The sessions that the first record of `bytes`, a whole ClientHello, offers; none if it offers none or is not well formed.
///
/// RFC 8446 §4.2.11: they stand in the extension `pre_shared_key`, which is the last one.
pub fn offered_sessions(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut identities = identities(bytes).unwrap_or_default();
    std::iter::from_fn(move || {
        let identity = take_vector::<2>(&mut identities)?;
        // obfuscated_ticket_age
        take(&mut identities, 4)?;
        Some(identity)
    })
    .take(SESSIONS_MAX)
}

fn identities(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    take(&mut rest, RECORD_HEADER_BYTES + 1)?;
    let mut hello = take_vector::<3>(&mut rest)?;
    // legacy_version, random
    take(&mut hello, 2 + 32)?;
    // legacy_session_id
    take_vector::<1>(&mut hello)?;
    // cipher_suites
    take_vector::<2>(&mut hello)?;
    // legacy_compression_methods
    take_vector::<1>(&mut hello)?;
    let mut extensions = take_vector::<2>(&mut hello)?;
    while let Some(kind) = take(&mut extensions, 2) {
        let mut extension = take_vector::<2>(&mut extensions)?;
        if kind == PRE_SHARED_KEY {
            return take_vector::<2>(&mut extension).filter(|_| extensions.is_empty());
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// A vector behind its length in `N` bytes (RFC 8446 §3.4).
fn take_vector<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(bytes, N)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    take(bytes, length)
}

/// Clients offer one, or two of a ring that has just turned. Each costs us a microsecond.
const SESSIONS_MAX: usize = 2;
/// RFC 8446 §5.1.
const RECORD_HEADER_BYTES: usize = 5;
/// RFC 8446 §4.2.
const PRE_SHARED_KEY: &[u8] = &[0, 41];

#[cfg(test)]
mod tests;
