//! Serial numbers as they are compared.

use std::fmt;
use std::str::FromStr;

use crate::certificate::hex;

/// A certificate's serial number: its magnitude in big-endian octets without leading zeros, inline.
///
/// RFC 5280 §4.1.2.2 allows at most 20 octets of a positive number. Zero has no octets. A negative number,
/// which some CAs have issued, is taken by its octets; that it then equals a positive one of the same issuer
/// can only refuse more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial {
    octets: [u8; SERIAL_OCTETS_MAX],
    len: u8,
}

/// Most significant octets of a serial number (RFC 5280 §4.1.2.2).
pub const SERIAL_OCTETS_MAX: usize = 20;

/// Why octets or a text are not a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// Longer than the standard allows.
    #[error("a serial number has at most {SERIAL_OCTETS_MAX} octets, and this one has {octets}")]
    TooLong {
        /// Significant octets.
        octets: usize,
    },
    /// Not hexadecimal.
    #[error(
        "a serial number is written in hexadecimal digits, in pairs if separated by colons: `0a1b` or `0a:1b`"
    )]
    NotHex,
}

impl Serial {
    /// From big-endian octets, such as the value of a DER INTEGER; leading zero octets are dropped.
    ///
    /// # Errors
    ///
    /// [`SerialError::TooLong`].
    pub fn new(octets: &[u8]) -> Result<Self, SerialError> {
        let first = octets.iter().position(|&octet| octet != 0).unwrap_or(octets.len());
        let significant = &octets[first..];
        let mut serial = Self { octets: [0; SERIAL_OCTETS_MAX], len: significant.len() as u8 };
        serial
            .octets
            .get_mut(..significant.len())
            .ok_or(SerialError::TooLong { octets: significant.len() })?
            .copy_from_slice(significant);
        Ok(serial)
    }

    /// The significant octets; none for zero.
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

impl fmt::Display for Serial {
    /// Lower-case hexadecimal, two digits for each octet, as [`PeerIdentity::serial`] writes it.
    ///
    /// [`PeerIdentity::serial`]: ringward_identity::PeerIdentity::serial
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == 0 { f.write_str("00") } else { f.write_str(&hex(self.as_bytes())) }
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// Hexadecimal in either case, as tools print it: an odd number of digits, colons between pairs.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let mut digits = Vec::with_capacity(2 * SERIAL_OCTETS_MAX);
        for part in text.split(':') {
            if part.is_empty() || (part.len() != 2 && text.contains(':')) {
                return Err(SerialError::NotHex);
            }
            for character in part.chars() {
                digits.push(character.to_digit(16).ok_or(SerialError::NotHex)? as u8);
            }
        }
        let first = digits.len() % 2;
        let mut octets: Vec<u8> = digits[..first].to_vec();
        octets.extend(digits[first..].chunks(2).map(|pair| (pair[0] << 4) | pair[1]));
        Self::new(&octets)
    }
}
