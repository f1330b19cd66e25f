//! Zstandard, by the reference implementation.

use zstd_safe::{
    CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, zstd_sys::ZSTD_EndDirective as Directive,
};

use crate::{Algorithm, EncodeError, ROOM, Until};

pub(crate) struct Zstd(CCtx<'static>);

impl Zstd {
    pub(crate) fn new(level: u8) -> Result<Zstd, EncodeError> {
        let mut context = CCtx::try_create().ok_or_else(|| failed("no memory"))?;
        for parameter in [
            CParameter::CompressionLevel(i32::from(level)),
            CParameter::WindowLog(WINDOW_BITS),
            CParameter::HashLog(TABLE_BITS),
            CParameter::ChainLog(TABLE_BITS),
        ] {
            context.set_parameter(parameter).map_err(failure)?;
        }
        Ok(Zstd(context))
    }

    pub(crate) fn reset(&mut self) -> Result<(), EncodeError> {
        self.0.reset(ResetDirective::SessionOnly).map(drop).map_err(failure)
    }

    pub(crate) fn run(&mut self, piece: &[u8], out: &mut Vec<u8>, until: Until) -> Result<(), EncodeError> {
        let directive = match until {
            Until::Later => Directive::ZSTD_e_continue,
            Until::Flushed => Directive::ZSTD_e_flush,
            Until::Ended => Directive::ZSTD_e_end,
        };
        let mut input = InBuffer::around(piece);
        loop {
            out.reserve(ROOM);
            let position = out.len();
            let mut output = OutBuffer::around_pos(out, position);
            let left = self.0.compress_stream2(&mut output, &mut input, directive).map_err(failure)?;
            let is_done = match until {
                // What it could give and has not is given with what follows.
                Until::Later => input.pos() == piece.len(),
                Until::Flushed | Until::Ended => left == 0,
            };
            if is_done {
                return Ok(());
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.sizeof()
    }
}

fn failure(code: usize) -> EncodeError {
    failed(zstd_safe::get_error_name(code))
}

fn failed(reason: &'static str) -> EncodeError {
    EncodeError { algorithm: Algorithm::Zstd, reason }
}

/// Above 9, a step takes too long.
pub(crate) const LEVELS: std::ops::RangeInclusive<u8> = 1..=9;
/// 128 KiB, as long as a block may be, for which it has buffers anyway. RFC 9659 allows up to 8 MiB.
pub(crate) const WINDOW_BITS: u32 = 17;
/// Of the tables by which it searches, 256 KiB each. The level would make them up to 8 MiB large.
const TABLE_BITS: u32 = 16;
/// Measured by a test.
pub(crate) const MEMORY_BYTES_MAX: usize = 2 << 20;
