//! Brotli, by the implementation in Rust.

use brotli::enc::{
    StandardAlloc,
    encode::{BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct},
};

use crate::{Algorithm, EncodeError, Until};

pub(crate) struct Brotli(BrotliEncoderStateStruct<StandardAlloc>);

impl Brotli {
    pub(crate) fn new(level: u8) -> Brotli {
        let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
        state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, u32::from(level));
        state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGWIN, WINDOW_BITS);
        // How much is searched at once, and so how long a step may take.
        state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGBLOCK, BLOCK_BITS);
        Brotli(state)
    }

    pub(crate) fn run(&mut self, piece: &[u8], out: &mut Vec<u8>, until: Until) -> Result<(), EncodeError> {
        let operation = match until {
            Until::Later => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
            Until::Flushed => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
            Until::Ended => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
        };
        let (mut left, mut taken) = (piece.len(), 0);
        loop {
            // What it has for us is taken from where it is, so it needs no other room.
            let goes_on = self.0.compress_stream(
                operation,
                &mut left,
                piece,
                &mut taken,
                &mut 0,
                &mut [],
                &mut 0,
                &mut None,
                &mut |_, _, _, _| (),
            );
            if !goes_on {
                return Err(EncodeError { algorithm: Algorithm::Brotli, reason: "its state is broken" });
            }
            // 0: all of it. What is given back may be longer than that.
            let mut size = 0;
            let output = self.0.take_output(&mut size);
            out.extend_from_slice(&output[..size]);
            let is_done = match until {
                Until::Ended => self.0.is_finished(),
                Until::Later | Until::Flushed => left == 0 && !self.0.has_more_output(),
            };
            if is_done {
                return Ok(());
            }
        }
    }
}

/// 0 and 1 are another way of encoding that is no better than gzip. From 5 to 8, what this implementation makes is longer than with 4,
/// and above, a step takes too long.
pub(crate) const LEVELS: std::ops::RangeInclusive<u8> = 2..=4;
/// 256 KiB.
pub(crate) const WINDOW_BITS: u32 = 18;
/// The least that there is, 64 KiB.
const BLOCK_BITS: u32 = 16;
/// Measured by a test.
pub(crate) const MEMORY_BYTES_MAX: usize = 2 << 20;
