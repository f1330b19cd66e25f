//! `crypto.*`: digests and certificates.

use regorus::Value;
use sha2::{Digest, Sha256};

use crate::builtins::{CallError, Function, text};

pub(crate) fn functions() -> Vec<Function> {
    vec![("crypto.sha256", Box::new(|args| sha256(&args).map_err(Into::into)))]
}

/// In lower-case hexadecimal digits.
fn sha256(args: &[Value]) -> Result<Value, CallError> {
    let digest = Sha256::digest(text("crypto.sha256", args, 0)?.as_bytes());
    Ok(Value::from(hex(&digest)))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_written_in_hexadecimal() {
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&[Value::from("abc")]), Ok(Value::from(digest)));
        assert!(sha256(&[Value::from(5)]).is_err());
    }
}
