//! The newest list that was seen of each issuer, so that nobody can hand us an older one.
//!
//! An old list is signed as well as a new one and revokes less. Whoever can replace a file or an answer could
//! take back a revocation with it; the floors survive restarts in a file of the state directory, whose bytes
//! are made and read here.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Write as _;

use super::crl::{CrlError, CrlHead, CrlNumber, compare_age};
use super::issuer::IssuerId;
use crate::certificate::{format_unix, hex};
use crate::digest::FieldHasher;

/// The newest number and thisUpdate that was seen of each kind of list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrlFloors(HashMap<FloorKey, Floor>);

/// SHA-256 over issuer, scope, and whether the list is a delta: each has a sequence of its own here, as a
/// complete list that is older than the newest delta is still the newest complete list.
type FloorKey = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Floor {
    number: Option<CrlNumber>,
    this_update_unix: i64,
}

/// Why a floor file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FloorError {
    /// Not a floor file, or of another version.
    #[error("the first line is not `{FILE_HEAD}`")]
    Head,
    /// A line that is not one floor.
    #[error(
        "line {line} is not `KEY NUMBER THIS_UPDATE`; restore the file, or remove it to accept lists of any age once"
    )]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// More than this crate writes.
    #[error("more than {FLOORS_MAX} lines")]
    TooMany,
}

impl CrlFloors {
    /// Nothing has been seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the list may be used: it is not older than what was seen of its kind. `delta` is whether it is a
    /// delta.
    ///
    /// # Errors
    ///
    /// [`CrlError::Rollback`]; also if a list without a number comes after one with a number.
    pub fn check(&self, head: &CrlHead, delta: bool) -> Result<(), CrlError> {
        let Some(floor) = self.0.get(&key(head, delta)) else { return Ok(()) };
        let offered = Floor { number: head.number, this_update_unix: head.this_update_unix };
        let lost_number = floor.number.is_some() && offered.number.is_none();
        if !lost_number && offered.compare(floor) != Ordering::Less {
            return Ok(());
        }
        Err(CrlError::Rollback { offered: offered.describe(), seen: floor.describe() })
    }

    /// Remembers the list. True if the floor rose, which is when the file has to be written before the list is
    /// used.
    pub fn raise(&mut self, head: &CrlHead, delta: bool) -> bool {
        let offered = Floor { number: head.number, this_update_unix: head.this_update_unix };
        if self.check(head, delta).is_err() || self.0.get(&key(head, delta)) == Some(&offered) {
            return false;
        }
        // Lists are configured or come from issuers of verified chains, so this many are not reached; one
        // beyond is used without protection rather than not at all.
        if self.0.len() >= FLOORS_MAX && !self.0.contains_key(&key(head, delta)) {
            return false;
        }
        self.0.insert(key(head, delta), offered);
        true
    }

    /// The file's content.
    pub fn serialize(&self) -> String {
        let mut lines: Vec<_> = self.0.iter().collect();
        lines.sort_by_key(|(key, _)| **key);
        let mut text = format!("{FILE_HEAD}\n");
        for (key, floor) in lines {
            let number = floor.number.map_or_else(|| "-".to_owned(), |number| number.hex());
            writeln!(text, "{} {number} {}", hex(key), floor.this_update_unix)
                .expect("writing to a String does not fail");
        }
        text
    }

    /// Reads what [`serialize`](Self::serialize) wrote.
    ///
    /// # Errors
    ///
    /// [`FloorError`]; a floor that cannot be read must not be taken for an absent one.
    pub fn parse(text: &str) -> Result<Self, FloorError> {
        let mut lines = text.split_inclusive('\n');
        if lines.next().and_then(|line| line.strip_suffix('\n')) != Some(FILE_HEAD) {
            return Err(FloorError::Head);
        }
        let mut floors = HashMap::new();
        for (index, line) in lines.enumerate() {
            if index == FLOORS_MAX {
                return Err(FloorError::TooMany);
            }
            let malformed = FloorError::Line { line: index + 2 };
            // A line without its end was cut, and so may be its last number.
            let read = line.strip_suffix('\n').and_then(parse_line);
            let Some((key, floor)) = read else { return Err(malformed) };
            if floors.insert(key, floor).is_some() {
                return Err(malformed);
            }
        }
        Ok(Self(floors))
    }
}

impl Floor {
    fn compare(&self, other: &Self) -> Ordering {
        compare_age((self.number, self.this_update_unix), (other.number, other.this_update_unix))
    }

    fn describe(&self) -> String {
        let number = self.number.map_or_else(|| "no number".to_owned(), |number| format!("number {number}"));
        format!("{number} from {}", format_unix(self.this_update_unix))
    }
}

fn key(head: &CrlHead, delta: bool) -> FloorKey {
    let IssuerId(issuer) = head.issuer;
    let mut hasher = FieldHasher::new("ringward crl floor 1");
    hasher.field(&issuer).field(&head.scope.digest).number(delta.into());
    hasher.finish()
}

fn parse_line(line: &str) -> Option<(FloorKey, Floor)> {
    let mut fields = line.split(' ');
    let key = super::unhex(fields.next()?)?;
    let number = match fields.next()? {
        "-" => None,
        text => Some(CrlNumber::from_hex(text)?),
    };
    let this_update_unix = fields.next()?.parse().ok()?;
    fields.next().is_none().then_some((key, Floor { number, this_update_unix }))
}

const FILE_HEAD: &str = "ringward crl floors 1";
/// Kinds of lists that are remembered; 130 bytes each in the file.
pub const FLOORS_MAX: usize = 65_536;

#[cfg(test)]
mod tests;
