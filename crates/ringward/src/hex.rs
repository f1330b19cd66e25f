//! Bytes as hexadecimal digits, as people and other tools write fingerprints.

/// Lower-case digits, two for each byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of digits in either case. Colons between bytes are allowed, as `openssl x509 -fingerprint` prints them. `None` if
/// it is anything else, also if a digit is missing.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = if text.contains(':') {
        let pairs: Vec<&str> = text.split(':').collect();
        pairs.iter().all(|pair| pair.len() == 2).then(|| pairs.concat().into_bytes())?
    } else {
        text.as_bytes().to_vec()
    };
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// As [`decode`], of exactly `N` bytes.
pub(crate) fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        assert_eq!(encode(&[0, 0x0f, 0xff]), "000fff");
        for text in ["000fff", "000FFF", "00:0f:FF"] {
            assert_eq!(decode(text), Some(vec![0, 0x0f, 0xff]), "{text}");
        }
        for text in ["0", "0g", "0:0f", "00::0f", "00:0f:", "é0", "+0"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(decode_array::<2>("0001"), Some([0, 1]));
        assert_eq!(decode_array::<2>("000102"), None);
    }
}
