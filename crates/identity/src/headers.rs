//! Header names that say who the peer is.
//!
//! Ringward alone may write [`IDENTITY_HEADERS`] towards an upstream: whatever a client sends under such a name,
//! or under one that an upstream could take for it, is removed first, and neither a policy nor a configured
//! header may write it. Names by which *other* proxies forward certificates are known too, because an upstream
//! that was moved here may still trust them; those are removed from what clients send, but may be configured.
//!
//! All functions run for each header of each request: no allocation, and most names are done with after a look at
//! their length.

/// RFC 9440 §2.1: the peer's leaf.
pub const CLIENT_CERT: &str = "client-cert";
/// RFC 9440 §2.3: the rest of the peer's chain.
pub const CLIENT_CERT_CHAIN: &str = "client-cert-chain";
/// Envoy's description of the peer.
pub const X_FORWARDED_CLIENT_CERT: &str = "x-forwarded-client-cert";

/// Every name that only Ringward may write upstream.
pub const IDENTITY_HEADERS: &[&str] = &[CLIENT_CERT, CLIENT_CERT_CHAIN, X_FORWARDED_CLIENT_CERT];

/// Beginnings of the names by which other proxies forward the client's certificate or parts of it: nginx, HAProxy
/// and Apache conventions, ingress-nginx, Traefik, AWS, Azure, Cloudflare, WebLogic.
pub const FOREIGN_IDENTITY_PREFIXES: &[&str] = &[
    "x-ssl-client",
    "x-client-cert",
    "x-forwarded-tls-client-cert",
    "x-amzn-mtls-clientcert",
    "x-arr-clientcert",
    "ssl-client-",
    "cf-client-cert",
    "wl-proxy-client-cert",
];

/// True for one of [`IDENTITY_HEADERS`] and for anything that an upstream might read as one.
///
/// Any case; any punctuation for `-`, since CGI and WSGI write `-` as `_` and PHP writes `.` as `_` as well;
/// blanks and controls around it.
pub fn is_identity_lookalike(name: &[u8]) -> bool {
    let name = trim(name);
    let real = match name.len() {
        11 => CLIENT_CERT,
        17 => CLIENT_CERT_CHAIN,
        23 => X_FORWARDED_CLIENT_CERT,
        _ => return false,
    };
    starts_with_folded(name, real)
}

/// True for a name that starts like one of [`FOREIGN_IDENTITY_PREFIXES`], with the same tolerance.
pub fn is_foreign_identity_header(name: &[u8]) -> bool {
    let name = trim(name);
    match name.first() {
        Some(b'x' | b'X' | b's' | b'S' | b'c' | b'C' | b'w' | b'W') if name.len() >= 11 => {
            FOREIGN_IDENTITY_PREFIXES.iter().any(|prefix| starts_with_folded(name, prefix))
        }
        _ => false,
    }
}

/// True for a name that is to be removed from what a client sends: ours, or another proxy's.
pub fn is_stripped_inbound(name: &[u8]) -> bool {
    is_identity_lookalike(name) || is_foreign_identity_header(name)
}

fn starts_with_folded(name: &[u8], prefix: &str) -> bool {
    name.len() >= prefix.len()
        && name.iter().zip(prefix.as_bytes()).all(|(&byte, &wanted)| fold(byte) == wanted)
}

fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// Without blanks and controls at either end.
fn trim(mut name: &[u8]) -> &[u8] {
    while let [b'\0'..=b' ' | 0x7f, rest @ ..] | [rest @ .., b'\0'..=b' ' | 0x7f] = name {
        name = rest;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_every_spelling_of_our_names() {
        for name in IDENTITY_HEADERS {
            let spellings = [
                (*name).to_owned(),
                name.to_uppercase(),
                name.replace('-', "_"),
                name.replacen('-', "_", 1),
                name.replace('-', "."),
                name.replace('-', " "),
                name.replace('c', "C"),
                format!("{name} "),
                format!("\t {name}\t"),
                format!("{name}\r"),
                format!("\0{name}\x7f"),
                format!(" {} ", name.to_uppercase().replace('-', "_")),
            ];
            for spelling in spellings {
                assert!(is_identity_lookalike(spelling.as_bytes()), "{spelling:?}");
                assert!(is_stripped_inbound(spelling.as_bytes()), "{spelling:?}");
            }
        }
    }

    #[test]
    fn leaves_other_names_alone() {
        for name in [
            "",
            " ",
            "-",
            "client",
            "client-cer",
            "client-cert-",
            "-client-cert",
            "client-certs",
            "client--cert",
            "client1cert",
            "clientcert",
            "my-client-cert",
            "client-cert-chains",
            "content-type",
            "if-modified-since",
            "transfer-encoding",
            "x-forwarded-for",
            "x-request-id",
            "sec-websocket-extensions",
            "x-forwarded-proto",
            "x-forwarded-host",
            "cookie",
            "cf-ray",
            "ssl-session",
            "x-ssl",
            "x-client-version",
            "x-amzn-trace-id",
            "wl-proxy",
        ] {
            assert!(!is_stripped_inbound(name.as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn knows_names_of_other_proxies() {
        for name in [
            "X-SSL-Client-Cert",
            "X-SSL-Client-S-DN",
            "x_ssl_client_verify",
            "X-Client-Cert",
            "X-Client-Certificate",
            "X-Forwarded-Tls-Client-Cert",
            "X-Forwarded-Tls-Client-Cert-Info",
            "X-Amzn-Mtls-Clientcert-Leaf",
            "X-Amzn-Mtls-Clientcert",
            "X-ARR-ClientCert",
            "SSL_CLIENT_S_DN",
            "ssl-client-verify",
            "Cf-Client-Cert-Der-Base64",
            "WL-Proxy-Client-Cert",
            " x-ssl-client-cn ",
        ] {
            assert!(is_foreign_identity_header(name.as_bytes()), "{name}");
            assert!(is_stripped_inbound(name.as_bytes()), "{name}");
            assert!(!is_identity_lookalike(name.as_bytes()), "{name} may be configured");
        }
    }

    #[test]
    fn the_first_letter_and_length_checks_cover_every_prefix() {
        for prefix in FOREIGN_IDENTITY_PREFIXES {
            assert!(is_foreign_identity_header(prefix.as_bytes()), "{prefix}");
            assert!(is_foreign_identity_header(prefix.to_uppercase().as_bytes()), "{prefix}");
        }
    }
}
