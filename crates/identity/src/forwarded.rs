//! Reads the chain that another proxy forwards: RFC 9440 and Envoy's `x-forwarded-client-cert`.
//!
//! Hides how certificates stand in headers. What is read here was verified by nobody: it is a chain that somebody says was
//! presented, to be judged like one that is presented. What could be read in two ways is an error and no chain.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::peer::fingerprint;

/// Why headers yield no chain. Messages never repeat what stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForwardedError {
    /// RFC 9440 §2.1, §2.3.
    #[error("it is no byte sequence of RFC 9440: base64 with padding between two colons")]
    ByteSequence,
    /// A field that may stand there once.
    #[error("the field stands there more than once")]
    Repeated,
    /// A chain without a leaf.
    #[error("there is a client-cert-chain and no client-cert")]
    NoLeaf,
    /// More certificates than any chain has.
    #[error("it holds more than {FORWARDED_CERTIFICATES_MAX} certificates")]
    TooMany,
    /// What is no list of `Key=Value`.
    #[error("it is no element of x-forwarded-client-cert: `Key=Value` separated by semicolons")]
    Element,
    /// Several hops: whose client is meant is open.
    #[error("it has several elements; have the load balancer replace what it receives (SANITIZE_SET)")]
    SeveralElements,
    /// A key that may stand there once.
    #[error("it has Cert, Chain or Hash twice")]
    RepeatedKey,
    /// Nothing that can be verified.
    #[error("it has neither Cert nor Chain; have the load balancer forward the certificate")]
    NoCertificate,
    /// A value that is no certificate.
    #[error("its Cert or Chain is not a percent-encoded PEM certificate")]
    Pem,
    /// Values that contradict each other.
    #[error("its Cert, Chain and Hash are of different certificates")]
    Contradiction,
}

/// The chain of `Client-Cert` and the values of `Client-Cert-Chain`, leaf first.
///
/// # Errors
/// [`ForwardedError::ByteSequence`], [`ForwardedError::NoLeaf`] and [`ForwardedError::TooMany`].
pub fn chain_of_rfc9440<'v>(
    client_cert: Option<&[u8]>,
    client_cert_chain: impl Iterator<Item = &'v [u8]>,
) -> Result<Vec<Vec<u8>>, ForwardedError> {
    let leaf = client_cert.map(item).transpose()?;
    let mut chain: Vec<Vec<u8>> = leaf.into_iter().collect();
    for value in client_cert_chain {
        if chain.is_empty() {
            return Err(ForwardedError::NoLeaf);
        }
        for member in value.split(|byte| *byte == b',') {
            if chain.len() == FORWARDED_CERTIFICATES_MAX {
                return Err(ForwardedError::TooMany);
            }
            chain.push(item(member)?);
        }
    }
    Ok(chain)
}

/// The chain of an `x-forwarded-client-cert` with one element that has `Cert` or `Chain`, leaf first. What it says of the
/// certificate besides is not looked at, but that its `Hash` has to be the leaf's.
///
/// # Errors
/// All but those of [`chain_of_rfc9440`].
pub fn chain_of_xfcc(value: &[u8]) -> Result<Vec<Vec<u8>>, ForwardedError> {
    let (mut cert, mut chain, mut hash) = (None, None, None);
    let mut rest = value;
    loop {
        let pair = pair(rest)?;
        let slot = match pair.key.to_ascii_lowercase().as_slice() {
            b"cert" => Some(&mut cert),
            b"chain" => Some(&mut chain),
            b"hash" => Some(&mut hash),
            _ => None,
        };
        if slot.is_some_and(|slot| slot.replace(pair.value).is_some()) {
            return Err(ForwardedError::RepeatedKey);
        }
        match pair.rest.split_first() {
            None => break,
            Some((b';', behind)) => rest = behind,
            Some((b',', _)) => return Err(ForwardedError::SeveralElements),
            Some(_) => return Err(ForwardedError::Element),
        }
    }
    let cert = cert.map(certificates).transpose()?;
    let chain = chain.map(certificates).transpose()?;
    let certificates = match (cert, chain) {
        (None, None) => return Err(ForwardedError::NoCertificate),
        (Some(cert), Some(chain)) if cert.len() != 1 || cert.first() != chain.first() => {
            return Err(ForwardedError::Contradiction);
        }
        (_, Some(chain)) => chain,
        (Some(cert), None) => cert,
    };
    let leaf = certificates.first().ok_or(ForwardedError::Pem)?;
    let is_leafs = |hash: &[u8]| hash.eq_ignore_ascii_case(fingerprint(leaf).as_bytes());
    if hash.is_some_and(|hash| !is_leafs(hash)) {
        return Err(ForwardedError::Contradiction);
    }
    Ok(certificates)
}

/// RFC 8941 §3.3.5, without the parameters that RFC 9440 defines none of.
fn item(text: &[u8]) -> Result<Vec<u8>, ForwardedError> {
    let encoded = text.trim_ascii().strip_prefix(b":").and_then(|text| text.strip_suffix(b":"));
    let der = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
    der.filter(|der| !der.is_empty()).ok_or(ForwardedError::ByteSequence)
}

/// A `Key=Value`.
struct Pair<'v> {
    key: &'v [u8],
    /// Without quotes, and with its escapes.
    value: &'v [u8],
    /// What follows it.
    rest: &'v [u8],
}

/// The first of some pairs.
fn pair(bytes: &[u8]) -> Result<Pair<'_>, ForwardedError> {
    let equals = bytes.iter().position(|byte| *byte == b'=').ok_or(ForwardedError::Element)?;
    let (key, rest) = (bytes[..equals].trim_ascii(), &bytes[equals + 1..]);
    if key.is_empty() || !key.iter().all(u8::is_ascii_alphabetic) {
        return Err(ForwardedError::Element);
    }
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let mut escaped = false;
        let end = quoted.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        let end = end.ok_or(ForwardedError::Element)?;
        let (value, rest) = (&quoted[..end], quoted[end + 1..].trim_ascii_start());
        return Ok(Pair { key, value, rest });
    }
    let end = rest.iter().position(|byte| b",;\"".contains(byte)).unwrap_or(rest.len());
    Ok(Pair { key, value: rest[..end].trim_ascii(), rest: &rest[end..] })
}

/// The certificates of a percent-encoded PEM text; at least one.
fn certificates(value: &[u8]) -> Result<Vec<Vec<u8>>, ForwardedError> {
    let text = percent_decoded(value).ok_or(ForwardedError::Pem)?;
    let mut rest = text.trim_ascii();
    let mut found = Vec::new();
    while !rest.is_empty() {
        if found.len() == FORWARDED_CERTIFICATES_MAX {
            return Err(ForwardedError::TooMany);
        }
        let body = rest.strip_prefix(BEGIN).ok_or(ForwardedError::Pem)?;
        let end = body.windows(END.len()).position(|part| part == END).ok_or(ForwardedError::Pem)?;
        let lines: Vec<u8> = body[..end].iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        found.push(STANDARD.decode(lines).map_err(|_| ForwardedError::Pem)?);
        rest = body[end + END.len()..].trim_ascii_start();
    }
    if found.is_empty() { Err(ForwardedError::Pem) } else { Ok(found) }
}

/// RFC 3986 §2.1. `+` is a digit of base64 and no blank.
fn percent_decoded(value: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            text.push(*byte);
            continue;
        }
        let mut digit = || char::from(*bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        text.push(u8::try_from(high << 4 | low).ok()?);
    }
    Some(text)
}

/// More certificates than a chain may have (`intermediates_max`), so that a longer one is refused with the words for that.
pub const FORWARDED_CERTIFICATES_MAX: usize = 16;
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(der: &[u8]) -> String {
        let body = STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    /// As nginx and Envoy do.
    fn encoded(text: &str) -> String {
        text.bytes().fold(String::new(), |text, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text + &char::from(byte).to_string()
            } else {
                text + &format!("%{byte:02X}")
            }
        })
    }

    fn read(client_cert: Option<&str>, chain: &[&str]) -> Result<Vec<Vec<u8>>, ForwardedError> {
        chain_of_rfc9440(client_cert.map(str::as_bytes), chain.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn rfc_9440_is_read_as_it_is_written() {
        let [leaf, one, two] = [b"leaf".to_vec(), b"one".to_vec(), b"three".to_vec()];
        let (client_cert, chain) = (
            crate::forward::client_cert(&leaf),
            crate::forward::client_cert_chain(&[&one, &two], 1000).unwrap(),
        );
        assert_eq!(read(Some(&client_cert), &[&chain]), Ok(vec![leaf.clone(), one.clone(), two.clone()]));
        assert_eq!(read(Some(&client_cert), &[":b25l:", " :dGhyZWU=: "]), Ok(vec![leaf.clone(), one, two]));
        assert_eq!(read(Some(&client_cert), &[]), Ok(vec![leaf]));
        assert_eq!(read(None, &[]), Ok(vec![]));
    }

    #[test]
    fn what_is_no_byte_sequence_is_refused() {
        for value in [
            "",
            ":",
            "::",
            "b25l",
            ":b25l",
            "b25l:",
            ":b25l;",
            ":b25l:;p=1",
            ":b25l:, :b25l:",
            ":b25:",
            ":b 25l:",
            ":b25l==:",
            "\":b25l:\"",
            "-----BEGIN CERTIFICATE-----",
            ":_-5l:",
        ] {
            assert_eq!(read(Some(value), &[]), Err(ForwardedError::ByteSequence), "{value:?}");
        }
        for value in ["", ":b25l:,", ",:b25l:", ":b25l: :b25l:", ":b25l:;p=1"] {
            assert_eq!(read(Some(":b25l:"), &[value]), Err(ForwardedError::ByteSequence), "{value:?}");
        }
        assert_eq!(read(None, &[":b25l:"]), Err(ForwardedError::NoLeaf));
        let long = vec![":b25l:"; FORWARDED_CERTIFICATES_MAX].join(",");
        assert_eq!(read(Some(":b25l:"), &[&long]), Err(ForwardedError::TooMany));
    }

    #[test]
    fn envoys_header_yields_the_chain_that_it_holds() {
        let (leaf, issuer) = (b"leaf".to_vec(), b"issuer>>?".to_vec());
        let cert = encoded(&pem(&leaf));
        let chain = encoded(&format!("{}{}", pem(&leaf), pem(&issuer)));
        let hash = fingerprint(&leaf);
        for value in [
            format!("Cert=\"{cert}\""),
            format!("Cert={cert}"),
            format!(
                "By=spiffe://x/y;Hash={hash};Cert=\"{cert}\";Subject=\"CN=a;b,c=\\\"d\\\"\";URI=;DNS=a;DNS=b"
            ),
            format!("hash={}; cert=\"{cert}\"", hash.to_uppercase()),
        ] {
            assert_eq!(chain_of_xfcc(value.as_bytes()), Ok(vec![leaf.clone()]), "{value}");
        }
        for value in [format!("Chain=\"{chain}\""), format!("Cert=\"{cert}\";Chain=\"{chain}\";Hash={hash}")]
        {
            assert_eq!(chain_of_xfcc(value.as_bytes()), Ok(vec![leaf.clone(), issuer.clone()]), "{value}");
        }
    }

    #[test]
    fn what_may_mean_somebody_else_is_refused() {
        use ForwardedError::*;
        let cert = encoded(&pem(b"leaf"));
        let other = encoded(&pem(b"other"));
        let both = encoded(&format!("{}{}", pem(b"leaf"), pem(b"other")));
        let many = encoded(&pem(b"x").repeat(FORWARDED_CERTIFICATES_MAX + 1));
        for (value, error) in [
            (String::new(), Element),
            ("Cert".to_owned(), Element),
            (format!("=\"{cert}\""), Element),
            (format!("Cert=\"{cert}"), Element),
            (format!("Cert=\"{cert}\\\""), Element),
            (format!("Cert=\"{cert}\"x"), Element),
            (format!("Cert=\"{cert}\";"), Element),
            (format!("Cert=\"{cert}\",Cert=\"{other}\""), SeveralElements),
            (format!("Cert={cert},Hash=0"), SeveralElements),
            (format!("Cert=\"{cert}\";Cert=\"{cert}\""), RepeatedKey),
            (format!("Cert=\"{cert}\";CERT=\"{other}\""), RepeatedKey),
            ("Hash=00;Subject=\"CN=a\";URI=spiffe://x/y".to_owned(), NoCertificate),
            (format!("Subject=\"Cert={cert}\""), NoCertificate),
            ("Cert=\"\"".to_owned(), Pem),
            ("Cert=\"%2\"".to_owned(), Pem),
            ("Cert=\"%zz\"".to_owned(), Pem),
            (format!("Cert=\"x{cert}\""), Pem),
            (format!("Cert=\"{cert}x\""), Pem),
            (format!("Cert=\"{}\"", cert.replace("END", "FIN")), Pem),
            (format!("Cert=\"{cert}\";Hash={}", fingerprint(b"other")), Contradiction),
            (format!("Cert=\"{cert}\";Hash="), Contradiction),
            (format!("Cert=\"{other}\";Chain=\"{both}\""), Contradiction),
            (format!("Cert=\"{both}\";Chain=\"{both}\""), Contradiction),
            (format!("Chain=\"{many}\""), TooMany),
        ] {
            assert_eq!(chain_of_xfcc(value.as_bytes()), Err(error), "{value}");
        }
    }
}
