//! Reads logs line by line. A line that is broken, or longer than any of ours, is counted and left out.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::tally::Tally;

/// A log that was to be read.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Source {
    pub(super) file: String,
    /// Lines of the period.
    pub(super) lines: u64,
    /// Lines of other times.
    pub(super) outside: u64,
    /// Lines that are none of ours: no JSON, without a time, too long.
    pub(super) unreadable: u64,
    /// Why it could not be read to its end.
    pub(super) problem: Option<String>,
}

/// What is looked at of a line: a record, or an event of the process.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line<'a> {
    #[serde(borrow, alias = "timestamp")]
    time: Cow<'a, str>,
    #[serde(borrow, alias = "message")]
    pub(super) msg: Cow<'a, str>,
    #[serde(borrow, rename = "peer.tenant")]
    pub(super) tenant: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "forwarded.tenant")]
    pub(super) forwarded_tenant: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "peer.id")]
    pub(super) peer: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "peer.not_after")]
    pub(super) not_after: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) route: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) policy: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) decision: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) rule: Option<Cow<'a, str>>,
    pub(super) status: Option<u16>,
    #[serde(borrow)]
    pub(super) reason: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "presented.subject")]
    pub(super) presented: Option<Cow<'a, str>>,
    pub(super) suppressed: Option<u64>,
    pub(super) generation: Option<u64>,
    #[serde(borrow)]
    pub(super) files: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) problems: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) by: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) trust: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) host: Option<Cow<'a, str>>,
}

/// Reads a file to its end, or standard input for `-`.
pub(super) fn read(file: &Path, tally: &mut Tally) -> Source {
    let mut source = Source { file: file.display().to_string(), ..Source::default() };
    let read = match file.as_os_str() == "-" {
        true => read_from(io::stdin().lock(), tally, &mut source),
        false => File::open(file).and_then(|file| read_from(BufReader::new(file), tally, &mut source)),
    };
    source.problem = read.err().map(|error| error.to_string());
    source
}

fn read_from(mut from: impl BufRead, tally: &mut Tally, source: &mut Source) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            skip_line(&mut from)?;
            source.unreadable += 1;
            continue;
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let Some((line, at)) = parse(text) else {
            source.unreadable += 1;
            continue;
        };
        if tally.add(&line, at) {
            source.lines += 1;
        } else {
            source.outside += 1;
        }
    }
}

fn skip_line(from: &mut impl BufRead) -> io::Result<()> {
    loop {
        let piece = from.fill_buf()?;
        let (length, ends) = match piece.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (piece.len(), piece.is_empty()),
        };
        from.consume(length);
        if ends {
            return Ok(());
        }
    }
}

fn parse(text: &[u8]) -> Option<(Line<'_>, i64)> {
    let line: Line<'_> = serde_json::from_slice(text).ok()?;
    let at = unix(&line.time)?;
    Some((line, at))
}

/// A moment of a log, in seconds since 1970.
pub(super) fn unix(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

/// A line of ours has a few kilobytes: the texts in it are cut.
const LINE_BYTES_MAX: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str =
        r#"{"time":"2027-03-01T00:00:01.5Z","msg":"request","peer.tenant":"acme","status":200}"#;

    fn of(text: &[u8]) -> Source {
        let mut source = Source::default();
        let since = unix("2027-03-01T00:00:00Z").unwrap();
        read_from(text, &mut Tally::new(since, since + 10), &mut source).unwrap();
        source
    }

    #[test]
    fn what_is_no_line_is_counted_and_left_out() {
        let counted = |lines, outside, unreadable| Source { lines, outside, unreadable, ..Source::default() };
        assert_eq!(of(b""), counted(0, 0, 0));
        assert_eq!(of(REQUEST.as_bytes()), counted(1, 0, 0), "without a line break at its end");
        let mut text = format!("{REQUEST}\n\n{}\nplain text\n[1]\n", REQUEST.replace("03-01", "03-02"));
        assert_eq!(of(text.as_bytes()), counted(1, 1, 2));
        // Cut off in the middle, invalid UTF-8, a number where text belongs, no time.
        text += &REQUEST[..40];
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(b"\n{\"time\":\"2027-03-01T00:00:01Z\",\"msg\":\"\xff\"}\n");
        bytes.extend_from_slice(b"{\"time\":\"2027-03-01T00:00:01Z\",\"msg\":7}\n{\"msg\":\"request\"}\n");
        assert_eq!(of(&bytes), counted(1, 1, 6));
        // A line without an end takes no memory, and what follows is read.
        let long =
            [vec![b'x'; 3 * LINE_BYTES_MAX as usize], b"\n".to_vec(), REQUEST.as_bytes().to_vec()].concat();
        assert_eq!(of(&long), counted(1, 0, 1));
        let exact =
            [vec![b' '; LINE_BYTES_MAX as usize - 1], b"\n".to_vec(), REQUEST.as_bytes().to_vec()].concat();
        assert_eq!(of(&exact), counted(1, 0, 0));
        assert_eq!(of(&vec![b'['; 200_000]), counted(0, 0, 1), "nested without an end");
    }
}
