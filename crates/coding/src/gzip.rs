//! gzip, by zlib-rs.

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::{Algorithm, EncodeError, ROOM, Until};

pub(crate) struct Gzip(Compress);

impl Gzip {
    pub(crate) fn new(level: u8) -> Gzip {
        Gzip(Compress::new_gzip(Compression::new(u32::from(level)), WINDOW_BITS))
    }

    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }

    pub(crate) fn run(
        &mut self,
        mut piece: &[u8],
        out: &mut Vec<u8>,
        until: Until,
    ) -> Result<(), EncodeError> {
        let failed = |reason| EncodeError { algorithm: Algorithm::Gzip, reason };
        let flush = match until {
            Until::Later => FlushCompress::None,
            Until::Flushed => FlushCompress::Sync,
            Until::Ended => FlushCompress::Finish,
        };
        loop {
            out.reserve(ROOM);
            let before = self.0.total_in();
            let status = self.0.compress_vec(piece, out, flush).map_err(|_| failed("its state is broken"))?;
            // Never more than it was given.
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX).min(piece.len());
            piece = &piece[taken..];
            // zlib: as long as the output is full, there may be more.
            let is_full = out.len() == out.capacity();
            match (until, status) {
                (_, Status::StreamEnd) => return Ok(()),
                (Until::Later | Until::Flushed, _) if piece.is_empty() && !is_full => return Ok(()),
                (_, Status::BufError) if taken == 0 && !is_full => return Err(failed("it takes no more")),
                _ => {}
            }
        }
    }
}

/// All that zlib has; what it finds beyond 6 is hardly worth the time.
pub(crate) const LEVELS: std::ops::RangeInclusive<u8> = 1..=9;
/// The largest that there is.
pub(crate) const WINDOW_BITS: u8 = 15;
/// zlib: `(1 << (windowBits + 2)) + (1 << (memLevel + 9))`, and what zlib-rs has besides. Measured by a test.
pub(crate) const MEMORY_BYTES_MAX: usize = 512 << 10;
