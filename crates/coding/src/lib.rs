//! Content codings of responses: gzip (RFC 1952), Brotli (RFC 7932) and Zstandard (RFC 8878), in steps, with bounded memory.
//!
//! Hides the three libraries. An [`Encoder`] takes a body piece by piece and appends to a buffer what of the encoded body can leave:
//! after [`Encoder::flush`] all that it was given, so that a reader who has got that far can decode it. How much memory one takes at
//! most is known before there is one ([`memory_bytes_max`]).
//!
//! Never does: I/O, threads, HTTP. Windows are small ([`window_bytes`]), since what is compressed here streams, and thousands may
//! stream at once: a window that is larger than a response is of no use, and of one that is much larger little is.
#![forbid(unsafe_code)]

mod brotli;
mod gzip;
mod zstd;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Algorithm {
    /// The name of the content coding.
    pub fn coding(self) -> &'static str {
        match self {
            Algorithm::Gzip => "gzip",
            Algorithm::Brotli => "br",
            Algorithm::Zstd => "zstd",
        }
    }

    /// The lowest and the highest level, as the library counts them. Above them a step of a few KiB would hold up a worker for too
    /// long, or an encoder would take too much memory.
    pub fn levels(self) -> std::ops::RangeInclusive<u8> {
        match self {
            Algorithm::Gzip => gzip::LEVELS,
            Algorithm::Brotli => brotli::LEVELS,
            Algorithm::Zstd => zstd::LEVELS,
        }
    }
}

/// How far back an encoder refers, and so what a decoder has to keep. RFC 9659 allows Zstandard 8 MiB.
pub fn window_bytes(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Gzip => 1 << gzip::WINDOW_BITS,
        Algorithm::Brotli => 1 << brotli::WINDOW_BITS,
        Algorithm::Zstd => 1 << zstd::WINDOW_BITS,
    }
}

/// How much memory an encoder of any level takes at most.
pub fn memory_bytes_max(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Gzip => gzip::MEMORY_BYTES_MAX,
        Algorithm::Brotli => brotli::MEMORY_BYTES_MAX,
        Algorithm::Zstd => zstd::MEMORY_BYTES_MAX,
    }
}

/// An encoder that cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("the {} encoder fails: {reason}", .algorithm.coding())]
pub struct EncodeError {
    algorithm: Algorithm,
    reason: &'static str,
}

/// Encodes one body.
pub struct Encoder {
    inner: Inner,
    level: u8,
    /// How much it was given since it was last flushed.
    holds: usize,
}

// Boxed, where the library keeps its state in place.
enum Inner {
    Gzip(gzip::Gzip),
    Brotli(Box<brotli::Brotli>),
    Zstd(zstd::Zstd),
}

/// What is done with what an encoder holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// It may stay.
    Later,
    /// It leaves.
    Flushed,
    /// It leaves, and the body ends.
    Ended,
}

impl Encoder {
    /// One for a body. `level` counts as the next one of [`Algorithm::levels`].
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new(algorithm: Algorithm, level: u8) -> Result<Encoder, EncodeError> {
        let levels = algorithm.levels();
        let level = level.clamp(*levels.start(), *levels.end());
        let inner = match algorithm {
            Algorithm::Gzip => Inner::Gzip(gzip::Gzip::new(level)),
            Algorithm::Brotli => Inner::Brotli(Box::new(brotli::Brotli::new(level))),
            Algorithm::Zstd => Inner::Zstd(zstd::Zstd::new(level)?),
        };
        Ok(Encoder { inner, level, holds: 0 })
    }

    /// How it encodes.
    pub fn algorithm(&self) -> Algorithm {
        match self.inner {
            Inner::Gzip(_) => Algorithm::Gzip,
            Inner::Brotli(_) => Algorithm::Brotli,
            Inner::Zstd(_) => Algorithm::Zstd,
        }
    }

    /// Its level.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Takes the next piece of the body; what can leave is appended to `out`. The work grows with the piece, so keep it small; what is
    /// held is flushed from [`HELD_BYTES_MAX`] on.
    ///
    /// # Errors
    /// What was appended is then no part of a body that could be completed.
    pub fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.holds += piece.len();
        self.run(piece, out, Until::Later)?;
        if self.holds >= HELD_BYTES_MAX {
            return self.flush(out);
        }
        Ok(())
    }

    /// Appends what it holds, if there is anything. Costs a few bytes, and what follows refers to what was before as ever.
    ///
    /// # Errors
    /// As [`Encoder::write`].
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if std::mem::take(&mut self.holds) == 0 {
            return Ok(());
        }
        self.run(&[], out, Until::Flushed)
    }

    /// Appends what it holds and the end of the body. Nothing may follow but [`Encoder::reset`].
    ///
    /// # Errors
    /// As [`Encoder::write`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.holds = 0;
        self.run(&[], out, Until::Ended)
    }

    /// Makes it as new for another body, whatever has become of the last one; `None` if making a new one is no dearer.
    pub fn reset(mut self) -> Option<Encoder> {
        self.holds = 0;
        match &mut self.inner {
            Inner::Gzip(gzip) => gzip.reset(),
            Inner::Zstd(zstd) => zstd.reset().ok()?,
            Inner::Brotli(_) => return None,
        }
        Some(self)
    }

    fn run(&mut self, piece: &[u8], out: &mut Vec<u8>, until: Until) -> Result<(), EncodeError> {
        match &mut self.inner {
            Inner::Gzip(gzip) => gzip.run(piece, out, until),
            Inner::Brotli(brotli) => brotli.run(piece, out, until),
            Inner::Zstd(zstd) => zstd.run(piece, out, until),
        }
    }
}

/// How much of a body is held at most, to be encoded together with what follows. All of it is work of one step, and takes room in
/// Brotli. The ends of pieces of this size cost about one part in a hundred of the encoded body.
pub const HELD_BYTES_MAX: usize = 32 * 1024;
/// How much room an output buffer gets at a time.
const ROOM: usize = 16 * 1024;

#[cfg(test)]
mod tests;
