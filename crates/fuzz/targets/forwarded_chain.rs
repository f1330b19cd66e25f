//! Chains in headers: any bytes yield certificates or an error, and what is read of RFC 9440 is written as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_identity::{FORWARDED_CERTIFICATES_MAX, chain_of_rfc9440, chain_of_xfcc};

fuzz_target!(|input: &[u8]| {
    let (leaf, chain) = input.split_at(input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len()));
    let lines = chain.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    if let Ok(chain) = chain_of_rfc9440(Some(leaf), lines) {
        assert!((1..=FORWARDED_CERTIFICATES_MAX).contains(&chain.len()));
        assert!(chain.iter().all(|der| !der.is_empty()));
    }
    if let Ok(chain) = chain_of_xfcc(input) {
        assert!((1..=FORWARDED_CERTIFICATES_MAX).contains(&chain.len()));
    }
});
