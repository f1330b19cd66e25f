//! TLS of a listener: versions, cipher suites, key exchange.

use super::context::Context;
use super::section;
use crate::model::{CipherSuite, Group, TlsPolicy, TlsVersion};
use crate::raw::{self, Field};

/// Builds the policy of a listener.
pub(super) fn policy(cx: &mut Context<'_>, field: &Field<raw::Tls>) -> TlsPolicy {
    let (raw, _) = section(cx, field);
    let min_version = cx.value_or(&raw.min_version, TlsVersion::Tls13);
    TlsPolicy {
        min_version,
        cipher_suites: cipher_suites(cx, &raw.cipher_suites, min_version),
        groups: groups(cx, &raw.groups, min_version),
    }
}

fn cipher_suites(
    cx: &mut Context<'_>,
    field: &Field<Vec<Field<CipherSuite>>>,
    min_version: TlsVersion,
) -> Vec<CipherSuite> {
    let Some(list) = cx.given(field) else {
        return CipherSuite::ALL.into_iter().filter(|suite| suite.version() >= min_version).collect();
    };
    let suites = cx.choices("cipher_suites", field);
    let readable = list.get_ref().iter().filter(|suite| suite.given().is_some());
    if min_version == TlsVersion::Tls13 {
        for suite in readable.filter_map(Field::given).filter(|suite| suite.get_ref().version() < min_version)
        {
            cx.error(
                &suite.span(),
                "this cipher suite has no effect: it is of TLS 1.2, and min_version is \"1.3\"",
            )
            .help("leave it away, or add min_version = \"1.2\"");
        }
    }
    for (version, number) in [(TlsVersion::Tls13, "1.3"), (TlsVersion::Tls12, "1.2")] {
        let some = suites.iter().any(|suite| suite.version() == version);
        if version >= min_version && !some && !suites.is_empty() {
            cx.error(&list.span(), format!("`cipher_suites` has none of TLS {number}")).help(match version {
                TlsVersion::Tls13 => {
                    "add \"TLS_AES_128_GCM_SHA256\", which every implementation has (RFC 8446 §9.1)"
                }
                TlsVersion::Tls12 => "add one, or leave min_version away",
            });
        }
    }
    suites
}

fn groups(cx: &mut Context<'_>, field: &Field<Vec<Field<Group>>>, min_version: TlsVersion) -> Vec<Group> {
    let Some(list) = cx.given(field) else { return Group::DEFAULT.to_vec() };
    let groups = cx.choices("groups", field);
    if min_version == TlsVersion::Tls12 && !groups.is_empty() && !groups.iter().any(|group| group.in_tls12())
    {
        cx.error(&list.span(), "`groups` has none that TLS 1.2 has")
            .help("add \"x25519\" or \"secp256r1\", or leave min_version away");
    }
    groups
}
