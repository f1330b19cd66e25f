//! A byte stream that any test can make and check without holding it in memory.

use std::io::{self, Write};

use aws_lc_rs::digest::{Context, SHA256, digest};

/// A body of a given length whose bytes follow from their position, so that lost, repeated, reordered or
/// exchanged parts change its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    bytes: u64,
}

impl Pattern {
    /// A body of `bytes` bytes.
    pub fn new(bytes: u64) -> Self {
        Self { bytes }
    }

    /// Length in bytes.
    pub fn len(self) -> u64 {
        self.bytes
    }

    /// True for a body of no bytes.
    pub fn is_empty(self) -> bool {
        self.bytes == 0
    }

    /// Calls `sink` with all bytes in order, at most 64 KiB at a time, until it fails.
    pub fn for_each_block<E>(self, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut block = vec![0; BLOCK_BYTES];
        let mut offset = 0;
        while offset < self.bytes {
            for (index, word) in block.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *word = mix(offset + 8 * index as u64).to_le_bytes();
            }
            let length = usize::try_from(self.bytes - offset).unwrap_or(usize::MAX).min(BLOCK_BYTES);
            sink(&block[..length])?;
            offset += length as u64;
        }
        Ok(())
    }

    /// Writes all bytes.
    pub fn write_to(self, out: &mut dyn Write) -> io::Result<()> {
        self.for_each_block(|block| out.write_all(block))
    }

    /// All bytes; for small bodies.
    pub fn to_vec(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes).expect("writing into a vector");
        bytes
    }

    /// SHA-256 of all bytes in lower-case hexadecimal.
    pub fn sha256_hex(self) -> String {
        let mut hash = Sha256::new();
        self.for_each_block::<()>(|block| {
            hash.update(block);
            Ok(())
        })
        .expect("hashing does not fail");
        hash.finish_hex()
    }
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// SHA-256 of a body that arrives in pieces.
pub(crate) struct Sha256(Context);

impl Sha256 {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish_hex(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): neighbouring positions give unrelated words.
fn mix(position: u64) -> u64 {
    let mut z = position.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const BLOCK_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_length_and_hash_it_says() {
        for bytes in [0, 1, 7, 8, 65_535, 65_536, 65_537, 200_000] {
            let pattern = Pattern::new(bytes);
            let all = pattern.to_vec();
            assert_eq!(all.len() as u64, pattern.len());
            assert_eq!(sha256_hex(&all), pattern.sha256_hex());
            assert_eq!(pattern.is_empty(), bytes == 0);
        }
    }

    #[test]
    fn a_shorter_body_is_the_beginning_of_a_longer_one_and_blocks_differ() {
        let all = Pattern::new(3 * 65_536).to_vec();
        assert_eq!(Pattern::new(1000).to_vec(), all[..1000]);
        assert_ne!(all[..65_536], all[65_536..2 * 65_536]);
    }
}
