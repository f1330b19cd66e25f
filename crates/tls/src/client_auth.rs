//! Whom a host admits: the validation section of a virtual host, built and immutable.
//!
//! Hides how that section is digested and compared. Never judges a chain itself: that is the verifier's, which
//! borrows these rules. Whatever decides about admission is in the digest, so that two hosts with one digest
//! admit the same clients.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ringward_identity::{IdentityOptions, PeerIdentity, TenantMap};
use rustls::DistinguishedName;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use crate::failure::{HandshakeFailure, HandshakeReason};
use crate::path::PeerPath;
use crate::revocation::{OcspMode, Revocation, RevocationFinding, RevocationRefusal, RevocationSource};
use crate::trust::{ANCHORS_PER_SUBJECT_MAX, TrustBundle};

mod digest;
mod strictness;

pub(crate) use digest::RUSTLS_VERSION;

/// Default bound on presented intermediates. Each one beyond a path's need costs a stranger nothing and us a
/// signature check; real hierarchies have one or two.
pub const INTERMEDIATES_MAX_DEFAULT: usize = 4;

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuthMode {
    /// Not asked. Every client is anonymous.
    Off,
    /// Asked and judged, and every client is anonymous all the same: nobody is refused, nobody gets an
    /// identity, and what would have become of each is told by [`ObservedIdentity`](crate::ObservedIdentity).
    Observe,
    /// Asked and judged, and nobody is refused here: a client with a good certificate is known, one with a bad one is
    /// anonymous and observed, so that whoever answers it can refuse it. For a host where some routes observe while
    /// others want to know their clients.
    Lenient,
    /// Asked. A client without one is anonymous, one with a bad one is refused.
    Optional,
    /// Asked. A client without a good one is refused.
    Required,
}

/// Settings of a virtual host that decide whom it admits.
#[derive(Clone, Debug)]
pub struct ClientAuthOptions {
    /// Whether clients are asked for a certificate.
    pub mode: ClientAuthMode,
    /// Who may vouch for clients; of several bundles that would admit a chain, the first does. Not consulted if the mode
    /// is [`ClientAuthMode::Off`], as everything below.
    pub trust: Vec<Arc<TrustBundle>>,
    /// Most intermediates a client may present.
    pub intermediates_max: usize,
    /// Refuse a leaf without extendedKeyUsage. One that has it must list clientAuth in any case.
    pub require_eku: bool,
    /// What is read into the identities of this host's clients.
    pub identity: IdentityOptions,
    /// Whose clients are admitted. `None`: there are no tenants, and nobody is asked for one.
    pub tenants: Option<TenantRules>,
    /// For how long a client need not prove anew that it holds its key.
    pub max_auth_age: Duration,
    /// Whether the issuers of clients are asked by OCSP.
    pub ocsp: OcspPolicy,
    /// What is known to be revoked. Looked up for every chain, remembered or not, and no part of the digest.
    pub revocation: Arc<Revocation>,
    /// The clock that validity is judged by.
    pub clock: Arc<dyn TimeProvider>,
}

/// Which tenants' clients a host admits.
#[derive(Clone, Debug)]
pub struct TenantRules {
    /// Who belongs to whom.
    pub map: Arc<TenantMap>,
    /// Tenants whose clients are admitted. Empty: those of any, and those of none. A client that several tenants
    /// claim is never admitted.
    pub admitted: Vec<Arc<str>>,
}

/// Whether the issuers of clients are asked by OCSP, and what the lack of an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OcspPolicy {
    /// What the lack of an answer means.
    pub mode: OcspMode,
    /// How long a client waits for a first answer.
    pub timeout: Duration,
}

impl ClientAuthOptions {
    /// The strict defaults for `mode`, on the system clock, trusting nobody.
    pub fn new(mode: ClientAuthMode) -> Self {
        Self {
            mode,
            trust: Vec::new(),
            intermediates_max: INTERMEDIATES_MAX_DEFAULT,
            require_eku: true,
            identity: IdentityOptions::default(),
            tenants: None,
            max_auth_age: MAX_AUTH_AGE_DEFAULT,
            ocsp: OcspPolicy { mode: OcspMode::Off, timeout: OCSP_TIMEOUT_DEFAULT },
            revocation: Revocation::empty(),
            clock: Arc::new(DefaultTimeProvider),
        }
    }
}

/// Why a validation section cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientAuthError {
    /// Client authentication without anyone to trust.
    #[error("client_auth is on but names no trust bundle; add `trust = \"...\"` or set `mode = \"off\"`")]
    NoTrust,
    /// One bundle twice, or two of one name.
    #[error("client_auth names the trust bundle `{name}` twice; name it once")]
    DuplicateTrust {
        /// The bundle.
        name: Arc<str>,
    },
    /// A valid client could run into the limit on signature checks.
    #[error(
        "the trust bundles of client_auth hold {count} CAs with one subject, more than {ANCHORS_PER_SUBJECT_MAX} \
         (one is in `{name}`): keep those in use, or bind the bundles to their SPIFFE trust domains"
    )]
    SharedSubject {
        /// A bundle that holds one of them.
        name: Arc<str>,
        /// How many CAs share the subject.
        count: usize,
    },
    /// Some clients choose their certificate by the hints, so half of them would mislead.
    #[error(
        "client_auth gives hints for the trust bundle `{with}` and none for `{without}`, so clients of the latter \
         would find no certificate to send; set `hints` alike for both"
    )]
    PartialHints {
        /// A bundle with hints.
        with: Arc<str>,
        /// A bundle without.
        without: Arc<str>,
    },
    /// They would grow every handshake, and break it when a record cannot hold them.
    #[error(
        "the hints of client_auth take {bytes} bytes in every handshake, at most {HINT_BYTES_MAX} are sensible; \
         set `hints = false`"
    )]
    HintsTooLong {
        /// Their size in the CertificateRequest.
        bytes: usize,
    },
}

/// The validation section of a host: everything that decides which chain is admitted, and as whom.
#[derive(Debug)]
pub struct ClientAuth {
    pub(crate) options: ClientAuthOptions,
    /// Subjects of the CAs that clients are told of. Empty if none are.
    pub(crate) hints: Vec<DistinguishedName>,
    digest: [u8; 32],
    /// Digest of all that a remembered verdict depends on: the context part of memo keys.
    pub(crate) memo_context: [u8; 32],
}

impl ClientAuth {
    /// Checks and digests a validation section.
    ///
    /// # Errors
    ///
    /// [`ClientAuthError`] if clients are asked for certificates and nobody is trusted, or if the bundles do not go
    /// together.
    pub fn build(options: &ClientAuthOptions) -> Result<Self, ClientAuthError> {
        let mut options = options.clone();
        if options.mode == ClientAuthMode::Off {
            options.trust.clear();
        } else if options.trust.is_empty() {
            return Err(ClientAuthError::NoTrust);
        }
        check_names(&options.trust)?;
        check_subjects(&options.trust)?;
        let hints = hints(&options.trust)?;
        let digest = digest::of_section(&options);
        let memo_context = digest::of_memo_context(&digest, &options.trust);
        Ok(Self { options, hints, digest, memo_context })
    }

    /// Whether clients are asked for a certificate.
    pub fn mode(&self) -> ClientAuthMode {
        self.options.mode
    }

    /// The bundles that clients are checked against, in order. Empty exactly if they are not asked.
    pub fn trust(&self) -> &[Arc<TrustBundle>] {
        &self.options.trust
    }

    /// For how long a client need not prove anew that it holds its key.
    pub fn max_auth_age(&self) -> Duration {
        self.options.max_auth_age
    }

    /// The clock that validity is judged by.
    pub(crate) fn clock(&self) -> &Arc<dyn TimeProvider> {
        &self.options.clock
    }

    /// Whether the issuers of clients are asked by OCSP.
    pub fn ocsp(&self) -> OcspPolicy {
        self.options.ocsp
    }

    /// SHA-256 over the whole validation section: mode, bundles with all their rules, limits, EKU rule, what is read into
    /// identities, revocation policy and the version of rustls. Not the content of revocation data.
    ///
    /// Two hosts with the same digest admit the same clients as the same identities. A request that came in under one
    /// host's name may be answered as another host exactly if their digests are equal.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// SHA-256 over all that a verdict depends on, time and revocation apart: the [`digest`](Self::digest), and the
    /// certificates of the anchors. Under the same context a chain that was admitted is admitted again, as the same client.
    pub fn context(&self) -> &[u8; 32] {
        &self.memo_context
    }

    /// Whether a client that was admitted under this [`context`](Self::context) may stay: what time or a new list may have
    /// changed. Asks the clock of the wall, which is set now and then, and goes on while a suspended machine does not. Costs what
    /// [`Revocation::check`] costs, however long ago the client was verified.
    ///
    /// # Errors
    ///
    /// Why it may not, as a new handshake would be told.
    pub fn check_standing(
        &self,
        path: &PeerPath,
        peer: &PeerIdentity,
        now_unix: i64,
    ) -> Result<(), Box<HandshakeFailure>> {
        if !path.is_valid_at(now_unix) {
            let expired = now_unix > path.valid_until;
            let reason = if expired { HandshakeReason::Expired } else { HandshakeReason::NotYetValid };
            let message = "a certificate of its path is outside its validity";
            return Err(Box::new(HandshakeFailure::new(reason, message)));
        }
        self.check_revocation(path, peer, now_unix)
            .map_err(|refusal| Box::new(HandshakeFailure::new(refusal.reason(), refusal.detail)))
    }

    /// Whether a client that was admitted under this [`context`](Self::context) may come in, as far as revocation is concerned.
    ///
    /// # Errors
    ///
    /// [`RevocationRefusal`].
    pub(crate) fn check_revocation(
        &self,
        path: &PeerPath,
        peer: &PeerIdentity,
        now_unix: i64,
    ) -> Result<(), RevocationRefusal> {
        // Names are part of the context, so this happens to callers only who have taken another one.
        let Some(bundle) = self.bundle(&path.bundle) else {
            return Err(RevocationRefusal {
                source: RevocationSource::Crl,
                what: RevocationFinding::Unknown,
                detail: format!("trust bundle `{}` admitted the client and is gone", path.bundle),
            });
        };
        self.options.revocation.check(path, peer, &bundle.options().revocation, now_unix)
    }

    /// True if no client that this host admits would be refused by `other`: this host may then answer in its
    /// place, as a default host does for an absent or unknown server name.
    ///
    /// Two hosts that trust different CAs are never comparable, unless the CAs of this one are among those of
    /// `other`, under rules of `other` that are no stricter.
    pub fn is_at_least_as_strict_as(&self, other: &Self) -> bool {
        strictness::is_at_least_as_strict(&self.options, &other.options)
    }

    /// The SPIFFE trust domain whose bundles judge a leaf of `trust_domain`: itself if a bundle is bound to it, else
    /// none, and the unbound ones do.
    pub(crate) fn binding<'a>(&self, trust_domain: Option<&'a str>) -> Option<&'a str> {
        trust_domain.filter(|_| self.bundles_bound_to(trust_domain).next().is_some())
    }

    /// The bundles of one binding, with their positions in [`trust`](Self::trust).
    pub(crate) fn bundles_bound_to(
        &self,
        binding: Option<&str>,
    ) -> impl Iterator<Item = (usize, &Arc<TrustBundle>)> {
        let bundles = self.options.trust.iter().enumerate();
        bundles.filter(move |(_, bundle)| bundle.options().spiffe_trust_domain.as_deref() == binding)
    }

    /// The names of all bundles, for messages. `None` if there are none.
    pub(crate) fn trust_names(&self) -> Option<Arc<str>> {
        match self.trust() {
            [] => None,
            [bundle] => Some(bundle.name().clone()),
            several => {
                Some(several.iter().map(|bundle| &**bundle.name()).collect::<Vec<_>>().join(", ").into())
            }
        }
    }

    /// The bundle of this name.
    pub(crate) fn bundle(&self, name: &str) -> Option<&Arc<TrustBundle>> {
        self.options.trust.iter().find(|bundle| **bundle.name() == *name)
    }
}

/// The first bundle of a name would be taken for the second.
fn check_names(trust: &[Arc<TrustBundle>]) -> Result<(), ClientAuthError> {
    let mut names = HashSet::new();
    match trust.iter().find(|bundle| !names.insert(bundle.name())) {
        Some(bundle) => Err(ClientAuthError::DuplicateTrust { name: bundle.name().clone() }),
        None => Ok(()),
    }
}

/// The bundles that are consulted together must not hold more anchors of a subject than one may.
fn check_subjects(trust: &[Arc<TrustBundle>]) -> Result<(), ClientAuthError> {
    let mut subjects: HashMap<_, HashSet<_>> = HashMap::new();
    // One bundle has been checked when it was built.
    for bundle in trust.iter().filter(|_| trust.len() > 1) {
        let binding = bundle.options().spiffe_trust_domain.as_deref();
        for (subject, key) in bundle.subjects() {
            let keys = subjects.entry((binding, subject)).or_default();
            keys.insert(key);
            if keys.len() > ANCHORS_PER_SUBJECT_MAX {
                let (name, count) = (bundle.name().clone(), keys.len());
                return Err(ClientAuthError::SharedSubject { name, count });
            }
        }
    }
    Ok(())
}

fn hints(trust: &[Arc<TrustBundle>]) -> Result<Vec<DistinguishedName>, ClientAuthError> {
    let Some(with) = trust.iter().find(|bundle| bundle.options().hints) else { return Ok(Vec::new()) };
    if let Some(without) = trust.iter().find(|bundle| !bundle.options().hints) {
        let (with, without) = (with.name().clone(), without.name().clone());
        return Err(ClientAuthError::PartialHints { with, without });
    }
    let subjects: BTreeSet<&[u8]> =
        trust.iter().flat_map(|bundle| bundle.subjects()).map(|(subject, _)| subject).collect();
    let hints: Vec<_> = subjects.into_iter().map(DistinguishedName::in_sequence).collect();
    // RFC 8446 §4.2.4: each has a length of two bytes.
    let bytes = hints.iter().map(|name| name.as_ref().len() + 2).sum();
    if bytes > HINT_BYTES_MAX {
        return Err(ClientAuthError::HintsTooLong { bytes });
    }
    Ok(hints)
}

/// Default of [`ClientAuthOptions::max_auth_age`]: a working day.
pub const MAX_AUTH_AGE_DEFAULT: Duration = Duration::from_secs(8 * 60 * 60);
/// Default of [`OcspPolicy::timeout`].
pub const OCSP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// Most bytes of CA names in a CertificateRequest. They are sent in every handshake, and beyond some 64 KiB clients fail.
pub const HINT_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests;
