//! Finds the end of a chunked body (RFC 9112 §7.1) and counts its data.
//!
//! Strict: what a gateway writes has to be exactly right. Written apart from Ringward's own decoder, so that the two
//! cannot share a mistake.

use crate::failure::Failure;

/// The state of one chunked body.
#[derive(Debug, Default)]
pub(crate) struct ChunkedBody {
    state: State,
    data_bytes: u64,
    /// Bytes of sizes, extensions and trailers since the last data.
    framing_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    SizeBegin,
    Size(u64),
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    TrailerBegin,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

impl ChunkedBody {
    /// Takes bytes until the body ends, and says how many it took. Data among them is handed on, piece by piece.
    pub(crate) fn feed(&mut self, input: &[u8], mut each: impl FnMut(&[u8])) -> Result<usize, Failure> {
        let mut taken = 0;
        while taken < input.len() && !self.is_done() {
            if let State::Data(left) = self.state {
                let data = left.min((input.len() - taken) as u64);
                self.data_bytes += data;
                self.framing_bytes = 0;
                each(&input[taken..taken + data as usize]);
                taken += data as usize;
                self.state = if data == left { State::DataCr } else { State::Data(left - data) };
            } else {
                self.state = self.state.after(input[taken])?;
                taken += 1;
                self.framing_bytes += 1;
                if self.framing_bytes > FRAMING_BYTES_MAX {
                    return Err(Failure::malformed("chunk framing without end"));
                }
            }
        }
        Ok(taken)
    }

    /// Whether the body has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of data so far.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }
}

impl State {
    fn after(self, byte: u8) -> Result<State, Failure> {
        let digit = || (byte as char).to_digit(16).map(u64::from);
        match (self, byte) {
            (State::SizeBegin, _) if let Some(digit) = digit() => Ok(State::Size(digit)),
            (State::Size(size), _) if let Some(digit) = digit() => {
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit));
                size.map(State::Size)
                    .ok_or_else(|| Failure::malformed("chunk size that does not fit 64 bits"))
            }
            (State::Size(size), b';') => Ok(State::Extension(size)),
            (State::Size(size) | State::Extension(size), b'\r') => Ok(State::SizeEnd(size)),
            (State::Extension(size), b' '..=b'~' | b'\t') => Ok(State::Extension(size)),
            (State::SizeEnd(0), b'\n') => Ok(State::TrailerBegin),
            (State::SizeEnd(size), b'\n') => Ok(State::Data(size)),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::SizeBegin),
            (State::TrailerBegin, b'\r') => Ok(State::LastLf),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::TrailerBegin | State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::Trailer),
            (State::TrailerLf, b'\n') => Ok(State::TrailerBegin),
            (State::LastLf, b'\n') => Ok(State::Done),
            _ => Err(Failure::malformed(format!("byte {byte:#04x} where chunk framing allows none such"))),
        }
    }
}

/// No sane sender writes more than this between two pieces of data.
const FRAMING_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// The data's length and how much was taken, the same for every way to cut the input.
    fn decode(input: &str) -> Result<(u64, usize), Failure> {
        let whole = |cut: usize| {
            let mut body = ChunkedBody::default();
            let (first, second) = input.as_bytes().split_at(cut);
            let mut taken = body.feed(first, |_| {})?;
            if taken == first.len() {
                taken += body.feed(second, |_| {})?;
            }
            assert!(body.is_done(), "{input:?} has an end");
            Ok((body.data_bytes(), taken))
        };
        let at_once = whole(0);
        for cut in 0..=input.len() {
            assert_eq!(whole(cut), at_once, "cut at {cut}");
        }
        at_once
    }

    #[test]
    fn data_is_counted_and_the_end_found() {
        assert_eq!(decode("0\r\n\r\n"), Ok((0, 5)));
        assert_eq!(decode("5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"), Ok((15, 34)));
        assert_eq!(decode("1\r\nx\r\n00\r\nx-checksum: ok\r\n\r\nHTTP/1.1"), Ok((1, 28)));
    }

    #[test]
    fn what_is_not_exactly_right_is_malformed() {
        for input in [
            "x\r\n",
            "\r\n",
            "5\nhello",
            "1\r\nxy",
            "1\r\nx\n",
            "0\r\n\n",
            "-1\r\n",
            "11111111111111111\r\n",
            "0\r\na\0\r\n",
        ] {
            assert!(ChunkedBody::default().feed(input.as_bytes(), |_| {}).is_err(), "{input:?}");
        }
        let endless = format!("0\r\n{}", "x".repeat(FRAMING_BYTES_MAX));
        assert!(ChunkedBody::default().feed(endless.as_bytes(), |_| {}).is_err());
    }
}
