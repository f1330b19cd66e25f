//! The meter of HTTP/2 frames: its verdict must not depend on how the bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_http::{Flood, FrameMeter};

fuzz_target!(|input: &[u8]| {
    let Some((&step, bytes)) = input.split_first() else { return };
    let whole = fed(bytes, bytes.len().max(1));
    assert_eq!(fed(bytes, 1), whole, "the same verdict byte by byte");
    assert_eq!(fed(bytes, usize::from(step).max(1)), whole, "the same verdict in steps of {step}");
});

/// The verdict on bytes that arrive in pieces of this size, many times over so that budgets come to their end.
fn fed(bytes: &[u8], step: usize) -> (Option<Flood>, bool) {
    let mut meter = FrameMeter::new(8 * 1024, 100, 0);
    meter.feed(&[0; 24], usize::MAX, 0).expect("the preface is not looked at");
    for _ in 0..REPEATS {
        for piece in bytes.chunks(step) {
            if let Err(flood) = meter.feed(piece, usize::MAX, 0) {
                return (Some(flood), meter.is_head_open());
            }
        }
    }
    (None, meter.is_head_open())
}

const REPEATS: usize = 50;
