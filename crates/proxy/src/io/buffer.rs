//! Buffers that are lent to operations in flight, reused within one worker.
//!
//! A connection owns buffers only while bytes move; an idle one owns none. Those that nobody needs any more go back to the
//! allocator.

use crate::shelf::Shelf;

/// Capacity of a buffer for heads and small bodies, in bytes.
pub(crate) const SMALL: usize = 8 * 1024;

/// Capacity of a buffer for bodies, in bytes: [`BULK`] and what TLS adds to it fit, and so does the largest handshake message.
pub(crate) const LARGE: usize = ringward_tls::HANDSHAKE_BYTES_MAX;

/// Bytes of a body that move at a time: four whole TLS records of 16 KiB (RFC 8446 §5.1).
pub(crate) const BULK: usize = 4 * ringward_tls::PLAINTEXT_RECORD_BYTES_MAX;

/// Free buffers of one worker.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    small: Shelf<Vec<u8>>,
    large: Shelf<Vec<u8>>,
}

impl BufferPool {
    /// An empty buffer of at least [`SMALL`] bytes.
    pub(crate) fn small(&self) -> Vec<u8> {
        self.small.take().unwrap_or_else(|| Vec::with_capacity(SMALL))
    }

    /// An empty buffer of at least [`LARGE`] bytes.
    pub(crate) fn large(&self) -> Vec<u8> {
        self.large.take().unwrap_or_else(|| Vec::with_capacity(LARGE))
    }

    /// `raw` with what it holds and room for more, as a buffer of at least `capacity` bytes; `None` if the largest is full.
    pub(crate) fn with_room(&self, raw: Vec<u8>, capacity: usize) -> Option<Vec<u8>> {
        let full = raw.capacity() - raw.len() < ROOM_MIN;
        if raw.capacity() >= capacity && !full {
            return Some(raw);
        }
        if full && raw.capacity() >= LARGE {
            return None;
        }
        if raw.capacity() == 0 && capacity < SMALL {
            return Some(Vec::with_capacity(capacity));
        }
        let mut larger =
            if capacity > SMALL || full && raw.capacity() > 0 { self.large() } else { self.small() };
        larger.extend_from_slice(&raw);
        self.put(raw);
        Some(larger)
    }

    /// Takes a buffer back, or frees it when enough are kept. What it held is forgotten, not wiped.
    pub(crate) fn put(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        match buffer.capacity() {
            LARGE..=LARGE_KEPT_MAX => self.large.put(buffer, LARGE_KEPT),
            SMALL..=SMALL_KEPT_MAX => self.small.put(buffer, SMALL_KEPT),
            _ => {} // never grown to a useful size, or grown by an unusual peer
        }
    }

    /// As [`Shelf::age`].
    pub(crate) fn age(&self) {
        self.small.age();
        self.large.age();
    }
}

/// Below this much room a read is not worth its system call.
const ROOM_MIN: usize = 1024;
/// Buffers kept by one worker: at most 4 MiB of small ones, of which each exchange that waits has one, and about 2 MiB of large
/// ones.
const SMALL_KEPT: usize = 512;
const LARGE_KEPT: usize = 32;
/// A buffer that had to grow beyond these goes back to the allocator.
const SMALL_KEPT_MAX: usize = 2 * SMALL;
const LARGE_KEPT_MAX: usize = 4 * LARGE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_lent_again_empty() {
        let pool = BufferPool::default();
        let mut buffer = pool.small();
        buffer.extend_from_slice(b"secret");
        let address = buffer.as_ptr();
        pool.put(buffer);
        let again = pool.small();
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), address);
    }

    #[test]
    fn the_number_of_kept_buffers_is_bounded() {
        let pool = BufferPool::default();
        for _ in 0..SMALL_KEPT + 10 {
            pool.put(Vec::with_capacity(SMALL));
        }
        for _ in 0..LARGE_KEPT + 10 {
            pool.put(Vec::with_capacity(LARGE));
        }
        pool.put(Vec::with_capacity(LARGE_KEPT_MAX + 1));
        assert_eq!((pool.small.len(), pool.large.len()), (SMALL_KEPT, LARGE_KEPT));
        // Nobody has needed them since they came.
        pool.age();
        pool.age();
        assert_eq!((pool.small.len(), pool.large.len()), (0, 0));
    }
}
