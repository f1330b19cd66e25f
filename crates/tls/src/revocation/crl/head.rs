//! What a list says about itself.

use std::cmp::Ordering;
use std::fmt;

use super::super::der::{INTEGER, Malformed, Reader, natural};
use super::super::issuer::IssuerId;
use super::super::unhex;
use super::{CrlError, CrlScope, format_unix};
use crate::certificate::hex;

/// What a list says about itself. The signature over it was good.
#[derive(Clone, Debug)]
pub struct CrlHead {
    /// Whose key signed it.
    pub issuer: IssuerId,
    /// Name of the issuer by RFC 4514, cut at 512 bytes.
    pub issuer_name: Box<str>,
    /// cRLNumber, which only grows. RFC 5280 demands it; older software leaves it out.
    pub number: Option<CrlNumber>,
    /// When it was made, seconds since 1970.
    pub this_update_unix: i64,
    /// When the next one is due at the latest, seconds since 1970. From then on this one is stale.
    pub next_update_unix: i64,
    /// Which certificates of the issuer it is about.
    pub scope: CrlScope,
    /// Where the CA publishes deltas of it (freshestCRL).
    pub delta_urls: Box<[Box<str>]>,
}

/// A cRLNumber: a natural number of at most 20 octets (RFC 5280 §5.2.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CrlNumber([u8; CRL_NUMBER_OCTETS_MAX]);

const CRL_NUMBER_OCTETS_MAX: usize = 20;

impl CrlHead {
    /// How much newer this list is than another of the same issuer and scope: by number if both have one, and
    /// by thisUpdate otherwise and between equal numbers.
    pub fn age_order(&self, other: &Self) -> Ordering {
        compare_age((self.number, self.this_update_unix), (other.number, other.this_update_unix))
    }
}

/// See [`CrlHead::age_order`].
pub(in super::super) fn compare_age(
    (number, this_update): (Option<CrlNumber>, i64),
    (other_number, other_this_update): (Option<CrlNumber>, i64),
) -> Ordering {
    let by_number = match (number, other_number) {
        (Some(number), Some(other)) => number.cmp(&other),
        _ => Ordering::Equal,
    };
    by_number.then(this_update.cmp(&other_this_update))
}

impl fmt::Display for CrlHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the list of `{}` ", self.issuer_name)?;
        if let Some(number) = self.number {
            write!(f, "number {number} ")?;
        }
        write!(f, "from {}", format_unix(self.this_update_unix))
    }
}

impl CrlNumber {
    /// From big-endian octets, at most 20 significant ones.
    pub fn new(octets: &[u8]) -> Option<Self> {
        let first = octets.iter().position(|&octet| octet != 0).unwrap_or(octets.len());
        let significant = &octets[first..];
        let mut number = [0; CRL_NUMBER_OCTETS_MAX];
        let start = CRL_NUMBER_OCTETS_MAX.checked_sub(significant.len())?;
        number[start..].copy_from_slice(significant);
        Some(Self(number))
    }

    pub(super) fn read(value: &[u8]) -> Result<Self, CrlError> {
        let read = || {
            let mut reader = Reader::new(value);
            let magnitude = natural(reader.expect(INTEGER)?)?;
            reader.finish()?;
            Self::new(magnitude).ok_or(Malformed)
        };
        read().map_err(|Malformed| CrlError::Number)
    }
}

impl CrlNumber {
    /// 40 hexadecimal digits.
    pub(in super::super) fn hex(&self) -> String {
        hex(&self.0)
    }

    pub(in super::super) fn from_hex(digits: &str) -> Option<Self> {
        unhex(digits).map(Self)
    }
}

impl From<u64> for CrlNumber {
    fn from(number: u64) -> Self {
        Self::new(&number.to_be_bytes()).expect("8 octets are less than 20")
    }
}

impl fmt::Display for CrlNumber {
    /// Decimal as far as 128 bits reach, hexadecimal after `0x` beyond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (high, low) = self.0.split_at(4);
        match <[u8; 16]>::try_from(low) {
            Ok(low) if high == [0; 4] => write!(f, "{}", u128::from_be_bytes(low)),
            _ => write!(f, "0x{}", hex(&self.0)),
        }
    }
}

impl fmt::Debug for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrlNumber({self})")
    }
}
