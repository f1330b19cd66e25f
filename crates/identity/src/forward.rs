//! How an identity is written into header values: RFC 9440 and Envoy's `x-forwarded-client-cert`.
//!
//! Every value is built from checked parts alone and holds visible ASCII and blanks only: no CR, no LF, no NUL.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// RFC 9440 §2.1: the DER as an RFC 8941 byte sequence.
pub(crate) fn client_cert(der: &[u8]) -> String {
    let mut value = String::with_capacity(item_bytes(der));
    push_item(&mut value, der);
    value
}

/// RFC 9440 §2.3: the chain without its leaf as an RFC 8941 list, in the order of the handshake. `None` if there
/// is none, or the value would be longer than `bytes_max`.
pub(crate) fn client_cert_chain<C: AsRef<[u8]>>(issuers: &[C], bytes_max: usize) -> Option<String> {
    let items: usize = issuers.iter().map(|der| item_bytes(der.as_ref())).sum();
    let bytes = items + SEPARATOR.len() * issuers.len().checked_sub(1)?;
    if bytes > bytes_max {
        return None;
    }
    let mut value = String::with_capacity(bytes);
    for der in issuers {
        if !value.is_empty() {
            value.push_str(SEPARATOR);
        }
        push_item(&mut value, der.as_ref());
    }
    Some(value)
}

/// The element of `x-forwarded-client-cert` that describes the peer, without `By`.
///
/// `subject` must be written with [`Escape::Hex`](crate::name::Escape::Hex). Envoy quotes a value and escapes
/// quotes by a backslash, but leaves backslashes alone, so that readers disagree on where a value with both ends.
/// The hexadecimal form has neither a quote nor two backslashes in a row, and reads the same everywhere.
pub(crate) fn xfcc_element(fingerprint_hex: &str, subject: &str, uris: &[String], dns: &[String]) -> String {
    let mut element = format!("Hash={fingerprint_hex};Subject=\"{subject}\"");
    for uri in uris {
        element.push_str(";URI=");
        push_uri(&mut element, uri);
    }
    for name in dns {
        element.push_str(";DNS=");
        element.push_str(name);
    }
    element
}

/// `element` with our own URI in front, as Envoy orders it.
pub(crate) fn xfcc_with_by(by: &str, element: &str) -> String {
    let mut value = String::with_capacity("By=\"\";".len() + by.len() + element.len());
    value.push_str("By=");
    push_uri(&mut value, by);
    value.push(';');
    value.push_str(element);
    value
}

/// Quotes a URI that holds a delimiter of the header; what no URI may hold is percent-encoded.
fn push_uri(out: &mut String, uri: &str) {
    let quoted = uri.contains([',', ';', '=']);
    if quoted {
        out.push('"');
    }
    for byte in uri.bytes() {
        match byte {
            b'"' | b'\\' => push_percent(out, byte),
            b'!'..=b'~' => out.push(char::from(byte)),
            _ => push_percent(out, byte),
        }
    }
    if quoted {
        out.push('"');
    }
}

fn push_percent(out: &mut String, byte: u8) {
    use std::fmt::Write;
    write!(out, "%{byte:02X}").expect("writing into a string cannot fail");
}

fn push_item(out: &mut String, der: &[u8]) {
    out.push(':');
    STANDARD.encode_string(der, out);
    out.push(':');
}

/// Length of one byte sequence: base64 with padding between two colons.
fn item_bytes(der: &[u8]) -> usize {
    der.len().div_ceil(3) * 4 + 2
}

const SEPARATOR: &str = ", ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_rfc_9440_values() {
        assert_eq!(client_cert(b"certificate"), ":Y2VydGlmaWNhdGU=:");
        assert_eq!(client_cert_chain(&[b"one"], 1000).as_deref(), Some(":b25l:"));
        assert_eq!(client_cert_chain(&[&b"one"[..], b"three"], 1000).as_deref(), Some(":b25l:, :dGhyZWU=:"));
        assert_eq!(client_cert_chain::<&[u8]>(&[], 1000), None);
    }

    #[test]
    fn leaves_out_a_chain_above_the_limit() {
        let chain = [&b"one"[..], b"three"];
        let bytes = ":b25l:, :dGhyZWU=:".len();
        assert!(client_cert_chain(&chain, bytes).is_some());
        assert_eq!(client_cert_chain(&chain, bytes - 1), None);
    }

    #[test]
    fn orders_xfcc_as_envoy_does() {
        let uris = ["spiffe://example.org/a".to_owned()];
        let dns = ["a.example".to_owned(), "b.example".to_owned()];
        let element = xfcc_element("00ff", "CN=a,O=b", &uris, &dns);
        assert_eq!(
            element,
            "Hash=00ff;Subject=\"CN=a,O=b\";URI=spiffe://example.org/a;DNS=a.example;DNS=b.example"
        );
        assert_eq!(xfcc_with_by("spiffe://x/y", &element), format!("By=spiffe://x/y;{element}"));
        assert_eq!(xfcc_element("00ff", "", &[], &[]), "Hash=00ff;Subject=\"\"");
    }

    #[test]
    fn no_uri_can_end_its_value() {
        let table = [
            ("urn:a,b;c=d", "\"urn:a,b;c=d\""),
            ("urn:a\"", "urn:a%22"),
            ("urn:a\",Hash=0", "\"urn:a%22,Hash=0\""),
            ("urn:a\\", "urn:a%5C"),
            ("urn:\r\nX: ü", "urn:%0D%0AX:%20%C3%BC"),
        ];
        for (uri, written) in table {
            assert_eq!(xfcc_with_by(uri, ""), format!("By={written};"));
        }
    }
}
