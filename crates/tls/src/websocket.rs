//! The key of the WebSocket handshake and the proof that it was read (RFC 6455 §4.2.2).
//!
//! Nothing here keeps a secret: the proof shows that the other side speaks WebSocket and has not merely repeated an answer. It
//! is in this crate because SHA-1 and random numbers are.

use aws_lc_rs::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    rand,
};

/// What a server has to answer to `key`, the value of `Sec-WebSocket-Key`, in `Sec-WebSocket-Accept`.
pub fn websocket_accept(key: &[u8]) -> [u8; 28] {
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    let mut text = [0; 28];
    base64(proof.as_ref(), &mut text);
    text
}

/// A new value for `Sec-WebSocket-Key`.
///
/// # Panics
/// If the system has no random numbers.
pub fn websocket_key() -> [u8; 24] {
    let (mut nonce, mut text) = ([0; 16], [0; 24]);
    rand::fill(&mut nonce).expect("the system has random numbers");
    base64(&nonce, &mut text);
    text
}

/// RFC 4648 §4, padded. `text` has room for exactly what `bytes` become.
fn base64(bytes: &[u8], text: &mut [u8]) {
    for (group, out) in bytes.chunks(3).zip(text.chunks_exact_mut(4)) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for (index, symbol) in out.iter_mut().enumerate() {
            let six = (bits >> (18 - 6 * index)) as usize & 0x3f;
            *symbol = if index <= group.len() { ALPHABET[six] } else { b'=' };
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_rfc() {
        assert_eq!(&websocket_accept(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_sixteen_bytes_and_never_the_same() {
        let (one, other) = (websocket_key(), websocket_key());
        assert_ne!(one, other);
        assert!(one.ends_with(b"==") && one[..22].iter().all(|byte| ALPHABET.contains(byte)));
    }

    #[test]
    fn the_encoding_is_that_of_rfc_4648() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
        ] {
            let mut encoded = vec![0; text.len()];
            base64(bytes, &mut encoded);
            assert_eq!(String::from_utf8(encoded).unwrap(), text);
        }
    }
}
