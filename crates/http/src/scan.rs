//! Finding the end of a head in bytes that arrive bit by bit, looking at each byte once.
//!
//! Also refuses what is wrong with the lines themselves (bare LF, folding, too many), so that `httparse`, which is
//! lenient there, never sees it. Knows nothing of methods, statuses or fields.

use memchr::memchr_iter;

use crate::HeadLimits;
use crate::error::HeadError;

/// Remembers how far a head was read. After [`Scan::Incomplete`], the next call has to bring the same bytes and more.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    /// Bytes already looked at.
    scanned: usize,
    /// Where the line being read starts.
    line_start: usize,
    /// Lines of the head read so far, start line included.
    lines: usize,
    /// Where the start line begins: past the empty line that may precede it.
    start: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// No end yet.
    Incomplete,
    /// The start line is longer than its limit.
    StartLineTooLong,
    /// `input[start..end]` is the head, with `fields` field lines.
    Complete { start: usize, end: usize, fields: usize },
}

/// What differs between requests and responses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanRules {
    /// RFC 9112 §2.2: a server should ignore one empty line before a request line. A response may have none.
    pub(crate) leading_empty_lines_max: usize,
    pub(crate) start_line_bytes_max: usize,
}

impl HeadScanner {
    /// Looks at what is new in `input`. Any outcome but [`Scan::Incomplete`] starts over.
    ///
    /// The outcome does not depend on how the bytes were split, because everything is judged line by line, in order.
    pub(crate) fn scan(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
        rules: ScanRules,
    ) -> Result<Scan, HeadError> {
        let outcome = self.advance(input, limits, rules);
        if outcome != Ok(Scan::Incomplete) {
            *self = HeadScanner::default();
        }
        outcome
    }

    fn advance(&mut self, input: &[u8], limits: &HeadLimits, rules: ScanRules) -> Result<Scan, HeadError> {
        let bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
        let window = &input[..input.len().min(bytes_max)];
        if window.len() < self.scanned {
            // Not the continuation that was promised: nothing learnt so far is worth anything.
            *self = HeadScanner::default();
        }
        let from = self.scanned;
        for lf in memchr_iter(b'\n', &window[from..]) {
            let lf = from + lf;
            if self.lines == 0 && lf - self.line_start > rules.start_line_bytes_max + 1 {
                return Ok(Scan::StartLineTooLong);
            }
            if lf == self.line_start || window[lf - 1] != b'\r' {
                return Err(HeadError::BareLf);
            }
            let line = &window[self.line_start..lf - 1];
            self.line_start = lf + 1;
            match (line.first(), self.lines) {
                (None, 0) => {
                    if lf + 1 > 2 * rules.leading_empty_lines_max {
                        return Err(HeadError::EmptyLine);
                    }
                    self.start = lf + 1;
                    continue;
                }
                (None, lines) => {
                    return Ok(Scan::Complete { start: self.start, end: lf + 1, fields: lines - 1 });
                }
                (Some(b' ' | b'\t'), 1..) => return Err(HeadError::LineFolding),
                (Some(_), lines) if lines > limits.fields_max => {
                    return Err(HeadError::TooManyFields { fields_max: limits.fields_max });
                }
                (Some(_), _) => self.lines += 1,
            }
        }
        self.scanned = window.len();
        // One byte more than the limit may be the CR.
        if self.lines == 0 && window.len() - self.line_start > rules.start_line_bytes_max + 1 {
            return Ok(Scan::StartLineTooLong);
        }
        match (window.len() < bytes_max, self.lines) {
            (true, _) => Ok(Scan::Incomplete),
            (false, 0) => Ok(Scan::StartLineTooLong),
            (false, _) => Err(HeadError::TooLarge { bytes_max }),
        }
    }
}

/// No legitimate head comes near it; it keeps spans within 32 bits whatever the limits say.
pub(crate) const HEAD_BYTES_CEILING: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: ScanRules = ScanRules { leading_empty_lines_max: 1, start_line_bytes_max: 8 };

    fn scan_whole(input: &[u8], head_bytes_max: usize, fields_max: usize) -> Result<Scan, HeadError> {
        HeadScanner::default().scan(input, &HeadLimits { head_bytes_max, fields_max }, RULES)
    }

    /// The outcome when the bytes come one at a time.
    fn scan_trickled(input: &[u8], head_bytes_max: usize, fields_max: usize) -> Result<Scan, HeadError> {
        let mut scanner = HeadScanner::default();
        for end in 0..=input.len() {
            match scanner.scan(&input[..end], &HeadLimits { head_bytes_max, fields_max }, RULES) {
                Ok(Scan::Incomplete) => {}
                outcome => return outcome,
            }
        }
        Ok(Scan::Incomplete)
    }

    #[test]
    fn the_outcome_does_not_depend_on_how_bytes_arrive() {
        let complete = |start, end, fields| Ok(Scan::Complete { start, end, fields });
        for (input, expected) in [
            (&b""[..], Ok(Scan::Incomplete)),
            (b"start\r\n", Ok(Scan::Incomplete)),
            (b"start\r\n\r", Ok(Scan::Incomplete)),
            (b"start\r\n\r\nrest", complete(0, 9, 0)),
            (b"start\r\na: b\r\n\r\n", complete(0, 15, 1)),
            (b"start\r\na: b\r\nc:\r\n\r\n", complete(0, 19, 2)),
            (b"start\r\na: b\r\nc:\r\nd:\r\n\r\n", Err(HeadError::TooManyFields { fields_max: 2 })),
            (b"\r\nstart\r\n\r\n", complete(2, 11, 0)),
            (b"\r\n\r\nstart\r\n\r\n", Err(HeadError::EmptyLine)),
            (b"\n", Err(HeadError::BareLf)),
            (b"start\n", Err(HeadError::BareLf)),
            (b"start\r\na: b\n\r\n", Err(HeadError::BareLf)),
            (b"start\r\na: b\r\n\n", Err(HeadError::BareLf)),
            (b"start\r\n a: b\r\n", Err(HeadError::LineFolding)),
            (b"start\r\na: b\r\n\tc\r\n", Err(HeadError::LineFolding)),
            (b"12345678\r\n\r\n", complete(0, 12, 0)),
            (b"123456789\r\n\r\n", Ok(Scan::StartLineTooLong)),
            (b"1234567890", Ok(Scan::StartLineTooLong)),
            (b"123456789012\n", Ok(Scan::StartLineTooLong)),
            (b"start\r\n12345678901234567890", Err(HeadError::TooLarge { bytes_max: 24 })),
            (b"start\r\n1234567890123\r\n\r\n", complete(0, 24, 1)),
            (b"start\r\n12345678901234\r\n\r\n", Err(HeadError::TooLarge { bytes_max: 24 })),
        ] {
            let shown = String::from_utf8_lossy(input);
            assert_eq!(scan_whole(input, 24, 2), expected, "whole: {shown:?}");
            assert_eq!(scan_trickled(input, 24, 2), expected, "trickled: {shown:?}");
        }
    }

    #[test]
    fn a_start_line_that_fills_the_head_limit_is_too_long() {
        assert_eq!(scan_whole(b"1234567", 7, 2), Ok(Scan::StartLineTooLong));
        assert_eq!(scan_whole(b"123456", 7, 2), Ok(Scan::Incomplete));
    }

    #[test]
    fn each_byte_is_looked_at_once() {
        let mut scanner = HeadScanner::default();
        let limits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 9 };
        assert_eq!(scanner.scan(b"start\r\nname: ", &limits, RULES), Ok(Scan::Incomplete));
        // Were the front read again, the bare LF there would be an error.
        assert_eq!(scanner.scan(b"\nXart\r\nname: more", &limits, RULES), Ok(Scan::Incomplete));
    }

    #[test]
    fn input_that_shrank_is_read_from_its_start() {
        let mut scanner = HeadScanner::default();
        let limits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 9 };
        assert_eq!(scanner.scan(b"start\r\nname: value", &limits, RULES), Ok(Scan::Incomplete));
        let expected = Ok(Scan::Complete { start: 0, end: 8, fields: 0 });
        assert_eq!(scanner.scan(b"next\r\n\r\n", &limits, RULES), expected);
    }

    #[test]
    fn the_ceiling_holds_whatever_the_limit_says() {
        let mut input = b"start\r\nname: ".to_vec();
        input.resize(HEAD_BYTES_CEILING, b'x');
        let expected = Err(HeadError::TooLarge { bytes_max: HEAD_BYTES_CEILING });
        assert_eq!(scan_whole(&input, usize::MAX, 9), expected);
    }
}
