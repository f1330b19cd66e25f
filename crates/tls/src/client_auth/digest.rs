//! Digests of a validation section.

use std::sync::Arc;

use ringward_identity::IdentityOptions;

use super::{ClientAuthMode, ClientAuthOptions, OcspPolicy, TenantRules};
use crate::digest::FieldHasher;
use crate::revocation::OcspMode;
use crate::trust::TrustBundle;
use crate::verifier::CHAIN_BYTES_MAX;

/// Digest of everything that decides which chain is admitted, and as whom.
pub(super) fn of_section(options: &ClientAuthOptions) -> [u8; 32] {
    // Every field is named, so that a new one cannot be forgotten.
    let ClientAuthOptions {
        mode,
        trust,
        intermediates_max,
        require_eku,
        identity,
        tenants,
        max_auth_age,
        ocsp: OcspPolicy { mode: ocsp, timeout: ocsp_timeout },
        revocation: _,
        clock: _,
    } = options;
    let mode_name: &[u8] = match mode {
        ClientAuthMode::Off => b"off",
        ClientAuthMode::Observe => b"observe",
        ClientAuthMode::Lenient => b"lenient",
        ClientAuthMode::Optional => b"optional",
        ClientAuthMode::Required => b"required",
    };
    let mut hasher = FieldHasher::new("ringward client authentication 2");
    hasher.field(mode_name).field(RUSTLS_VERSION.as_bytes());
    // Without client authentication nothing else decides about anyone.
    if *mode == ClientAuthMode::Off {
        return hasher.finish();
    }
    hasher.number(trust.len() as u64);
    for bundle in trust {
        // The name is what tenants refer to a bundle by.
        hasher.field(bundle.name().as_bytes()).field(bundle.digest());
    }
    hasher.number(*intermediates_max as u64).number(CHAIN_BYTES_MAX as u64);
    hasher.number((*require_eku).into());
    digest_identity(identity, &mut hasher);
    hasher.number(tenants.is_some().into());
    if let Some(TenantRules { map, admitted }) = tenants {
        hasher.field(&map.digest()).set(admitted.iter().map(|tenant| tenant.as_bytes()));
    }
    hasher.duration(*max_auth_age);
    hasher.number(match ocsp {
        OcspMode::Off => 0,
        OcspMode::SoftFail => 1,
        OcspMode::HardFail => 2,
    });
    hasher.duration(*ocsp_timeout);
    hasher.finish()
}

/// What is read into an identity admits nobody, but a policy that asks for what was not read decides otherwise.
fn digest_identity(options: &IdentityOptions, hasher: &mut FieldHasher) {
    let IdentityOptions { extensions, chain_header_bytes_max } = options;
    hasher.number(extensions.len() as u64);
    for extension in extensions {
        hasher.field(extension.as_str().as_bytes());
    }
    hasher.number(*chain_header_bytes_max as u64);
}

/// Everything that a remembered verdict depends on: the validation section, and until when each anchor holds.
pub(super) fn of_memo_context(digest: &[u8; 32], trust: &[Arc<TrustBundle>]) -> [u8; 32] {
    let mut hasher = FieldHasher::new("ringward memo context 2");
    hasher.field(digest);
    for bundle in trust {
        hasher.number(bundle.anchors().len() as u64);
        for anchor in bundle.anchors() {
            hasher.field(&anchor.fingerprint_sha256);
        }
    }
    hasher.finish()
}

/// The version of rustls that is built in, as what is verified follows from it. A test compares it with the
/// pinned one.
pub(crate) const RUSTLS_VERSION: &str = "0.23.46";
