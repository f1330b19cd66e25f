//! Durations and sizes as they are written in the file: a number and a unit, never a bare number.
//!
//! Hides the two small grammars and the way values are written back in messages. Never rounds, never guesses a
//! unit and never overflows silently: what cannot be represented exactly is an error.

use std::fmt;
use std::time::Duration;

/// Reads a duration such as `10s`, `5ms` or `1m30s`: whole numbers with units, largest unit first, each unit once.
///
/// Units are `d`, `h`, `m`, `s`, `ms` and `us`; a day has 24 hours.
///
/// # Errors
/// [`UnitError`] says what is wrong; its [`UnitError::help`] shows the way to write it.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let fault = |kind| UnitError { text: text.to_owned(), expected: Expected::Duration, kind };
    let mut rest = text;
    let mut total_us: u64 = 0;
    let mut next_unit = 0;
    if rest.is_empty() {
        return Err(fault(UnitFault::Empty));
    }
    while !rest.is_empty() {
        let (number, after) = split_digits(rest);
        if number.is_empty() {
            return Err(fault(UnitFault::NotANumber));
        }
        let (unit, after) = split_letters(after);
        if unit.is_empty() {
            return Err(fault(if after.is_empty() { UnitFault::NoUnit } else { UnitFault::NotANumber }));
        }
        let Some(index) = DURATION_UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(fault(UnitFault::UnknownUnit(unit.to_owned())));
        };
        // Largest first and each once: `30s1m` and `1s1s` are more likely slips than intentions.
        if index < next_unit {
            return Err(fault(UnitFault::Order));
        }
        next_unit = index + 1;
        total_us = number
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(DURATION_UNITS[index].1))
            .and_then(|us| total_us.checked_add(us))
            .ok_or_else(|| fault(UnitFault::TooLarge))?;
        rest = after;
    }
    Ok(Duration::from_micros(total_us))
}

/// Reads a size such as `32KiB`, `10MiB`, `1GB` or `512B`: one whole number with one unit, in bytes.
///
/// # Errors
/// [`UnitError`] says what is wrong; its [`UnitError::help`] shows the way to write it.
pub(crate) fn parse_size(text: &str) -> Result<u64, UnitError> {
    let fault = |kind| UnitError { text: text.to_owned(), expected: Expected::Size, kind };
    if text.is_empty() {
        return Err(fault(UnitFault::Empty));
    }
    let (number, unit) = split_digits(text);
    if number.is_empty() {
        return Err(fault(UnitFault::NotANumber));
    }
    if unit.is_empty() {
        return Err(fault(UnitFault::NoUnit));
    }
    if !unit.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(fault(UnitFault::NotANumber));
    }
    let Some((_, bytes)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(fault(UnitFault::UnknownUnit(unit.to_owned())));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(*bytes))
        .ok_or_else(|| fault(UnitFault::TooLarge))
}

/// Why a duration or a size could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitError {
    text: String,
    expected: Expected,
    kind: UnitFault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Duration,
    Size,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum UnitFault {
    Empty,
    NotANumber,
    NoUnit,
    UnknownUnit(String),
    Order,
    TooLarge,
}

impl UnitError {
    /// How to write it.
    pub(crate) fn help(&self) -> &'static str {
        match self.expected {
            Expected::Duration => {
                "write whole numbers with the units d, h, m, s, ms, us: \"10s\", \"500ms\", \"1m30s\""
            }
            Expected::Size => {
                "write a whole number with one of B, KB, MB, GB, KiB, MiB, GiB: \"32KiB\", \"10MiB\""
            }
        }
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.expected {
            Expected::Duration => "a duration",
            Expected::Size => "a size",
        };
        write!(f, "{:?} is not {what}: ", self.text)?;
        match &self.kind {
            UnitFault::Empty => write!(f, "it is empty"),
            UnitFault::NotANumber => write!(f, "it is not made of whole numbers and units"),
            UnitFault::NoUnit => write!(f, "the unit is missing"),
            UnitFault::UnknownUnit(unit) => write!(f, "unknown unit {unit:?}"),
            UnitFault::Order => write!(f, "units go from large to small, each at most once"),
            UnitFault::TooLarge => write!(f, "the number is too large"),
        }
    }
}

/// Writes a duration the way it would stand in the file, for messages.
pub(crate) struct ShowDuration(pub(crate) Duration);

impl fmt::Display for ShowDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in DURATION_UNITS {
            let count = rest / unit;
            if count > 0 {
                write!(f, "{count}{name}")?;
                rest %= unit;
            }
        }
        Ok(())
    }
}

/// Writes a size in bytes the way it would stand in the file, for messages.
pub(crate) struct ShowSize(pub(crate) u64);

impl fmt::Display for ShowSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |unit: &u64| self.0 > 0 && self.0.is_multiple_of(*unit);
        let best = SIZE_UNITS.iter().filter(|(_, unit)| exact(unit)).max_by_key(|(_, unit)| *unit);
        match best {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn split_letters(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !b.is_ascii_alphabetic()).unwrap_or(text.len());
    text.split_at(end)
}

/// In microseconds, largest first: the order in which they may follow each other.
const DURATION_UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// In bytes. Decimal and binary units differ in spelling only, so case matters.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_that_are_read_and_written_back() {
        for (text, us) in [
            ("10s", 10_000_000),
            ("5ms", 5_000),
            ("250us", 250),
            ("1m30s", 90_000_000),
            ("2h", 7_200_000_000),
            ("1h1m1s1ms1us", 3_661_001_001),
            ("30d", 2_592_000_000_000),
            ("1d1h", 90_000_000_000),
        ] {
            let parsed = parse_duration(text).unwrap();
            assert_eq!(parsed, Duration::from_micros(us), "{text}");
            assert_eq!(ShowDuration(parsed).to_string(), text);
        }
        assert_eq!(parse_duration("0s").unwrap(), Duration::ZERO);
        assert_eq!(ShowDuration(Duration::ZERO).to_string(), "0s");
        assert_eq!(ShowDuration(parse_duration("90s").unwrap()).to_string(), "1m30s");
    }

    #[test]
    fn durations_that_are_refused() {
        for (text, why) in [
            ("", "\"\" is not a duration: it is empty"),
            ("10", "\"10\" is not a duration: the unit is missing"),
            ("1m30", "\"1m30\" is not a duration: the unit is missing"),
            ("s", "\"s\" is not a duration: it is not made of whole numbers and units"),
            ("1.5s", "\"1.5s\" is not a duration: it is not made of whole numbers and units"),
            ("-1s", "\"-1s\" is not a duration: it is not made of whole numbers and units"),
            ("10 s", "\"10 s\" is not a duration: it is not made of whole numbers and units"),
            (" 10s", "\" 10s\" is not a duration: it is not made of whole numbers and units"),
            ("10S", "\"10S\" is not a duration: unknown unit \"S\""),
            ("1w", "\"1w\" is not a duration: unknown unit \"w\""),
            ("30s1m", "\"30s1m\" is not a duration: units go from large to small, each at most once"),
            ("1s1s", "\"1s1s\" is not a duration: units go from large to small, each at most once"),
            ("99999999999999999999s", "\"99999999999999999999s\" is not a duration: the number is too large"),
            ("9999999999999999h", "\"9999999999999999h\" is not a duration: the number is too large"),
            ("١s", "\"١s\" is not a duration: it is not made of whole numbers and units"),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn sizes_that_are_read_and_written_back() {
        for (text, bytes) in [
            ("1B", 1),
            ("32KiB", 32 * 1024),
            ("10MiB", 10 * 1024 * 1024),
            ("1GB", 1_000_000_000),
            ("16383TiB", 16_383 << 40),
        ] {
            let parsed = parse_size(text).unwrap();
            assert_eq!(parsed, bytes, "{text}");
            assert_eq!(ShowSize(parsed).to_string(), text);
        }
        assert_eq!(parse_size("0B").unwrap(), 0);
        assert_eq!(ShowSize(0).to_string(), "0B");
        assert_eq!(ShowSize(1025).to_string(), "1025B");
    }

    #[test]
    fn sizes_that_are_refused() {
        for (text, why) in [
            ("", "\"\" is not a size: it is empty"),
            ("1024", "\"1024\" is not a size: the unit is missing"),
            ("KiB", "\"KiB\" is not a size: it is not made of whole numbers and units"),
            ("1.5MiB", "\"1.5MiB\" is not a size: it is not made of whole numbers and units"),
            ("1 MiB", "\"1 MiB\" is not a size: it is not made of whole numbers and units"),
            ("1kb", "\"1kb\" is not a size: unknown unit \"kb\""),
            ("16777216TiB", "\"16777216TiB\" is not a size: the number is too large"),
        ] {
            assert_eq!(parse_size(text).unwrap_err().to_string(), why);
        }
    }
}
