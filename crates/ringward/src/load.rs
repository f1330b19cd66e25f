//! From the path of a configuration file to everything that a snapshot is built from.
//!
//! Two steps, so that a reload can stop after the first: [`gather`] reads all files, [`Gathered::build`] makes
//! credentials, trust bundles, revocation lists, keys and policies of them. All problems are reported at once, each at the
//! place of the configuration that names the file. Never falls back to fewer checks because a file is broken.

mod bodies;
mod credentials;
pub(crate) mod files;
mod policies;
mod trust;
mod upstream_lists;
mod upstream_tls;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ringward_config::{
    Config, Diagnostic, Diagnostics, FileKind, Host, Listener, Location, Passphrase, Severity,
};
use ringward_policy::PolicySet;
use ringward_proxy::Materials;
use ringward_tls::{CrlFloors, IssuerCertificate, KeyRing, Staple, Suspension, TrustBundle};
use rustls::ClientConfig;

pub(crate) use self::files::Staged;
use self::files::{FileError, Files};
pub(crate) use self::policies::{LoadedPolicy, Reason};
pub(crate) use self::upstream_lists::UpstreamLists;
use crate::background;
use crate::failure::Failure;
use crate::hex;
use crate::reload::FileDigests;
use crate::trust::crl::list::List;
use crate::trust::keys;
use crate::trust::status::CrlStatus;
use crate::upstream_health;

/// A configuration with the content of all files that it names.
#[derive(Debug)]
pub(crate) struct Gathered {
    begun: Instant,
    config: Config,
    files: Files,
}

/// A configuration with everything that it needs to run.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// When its files began to be read.
    pub(crate) begun: Instant,
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// What was made of its files, without what is trusted beyond them.
    pub(crate) materials: Materials,
    /// Its policies by name, with what their check found out.
    pub(crate) policies: HashMap<String, LoadedPolicy>,
    /// Certificates that were left out of a trust bundle, and why, by the bundle's name.
    pub(crate) quarantined: BTreeMap<String, Vec<String>>,
    /// Whose revocation lists and OCSP answers are checked, by the name of the trust bundle: its CAs and `crl_issuers`.
    pub(crate) issuers: BTreeMap<String, Vec<IssuerCertificate>>,
    /// Revocation lists of files.
    pub(crate) lists: Vec<List>,
    /// The same by file, so that those that did not change need not be read again.
    pub(crate) lists_by_file: HashMap<ListFile, Vec<List>>,
    /// Revocation lists of files for the endpoints of clusters, by the cluster's name.
    pub(crate) upstream_lists: BTreeMap<String, UpstreamLists>,
    /// What can be said of all of them.
    pub(crate) list_status: Vec<CrlStatus>,
    /// The ring file.
    pub(crate) key_ring: Option<Arc<KeyRing>>,
    /// How https servers of revocation data are verified, if any are asked.
    pub(crate) fetch_tls: Option<Arc<ClientConfig>>,
    /// Staples of files, by SHA-256 of the certificate's DER.
    pub(crate) staples: HashMap<[u8; 32], Arc<Staple>>,
    /// The endpoints of clusters, with what is known of those that are checked or found elsewhere.
    pub(crate) upstreams: Arc<upstream_health::Plan>,
    /// What works, but deserves a look.
    pub(crate) warnings: Vec<Diagnostic>,
    /// Digest of all that was read.
    pub(crate) digest: [u8; 32],
    /// Digests of what nodes of a fleet are to have in common, by part. No secret is in them.
    pub(crate) parts: [(&'static str, [u8; 32]); 3],
    /// The files that were read.
    pub(crate) files: Arc<FileDigests>,
}

/// A file with revocation lists: the name of its trust bundle, and the SHA-256 of its content.
pub(crate) type ListFile = (String, [u8; 32]);

/// Why a configuration cannot be put in force.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Everything that is wrong, with the warnings found on the way.
    pub(crate) problems: Diagnostics,
    /// A certificate and its key do not belong together, and nothing else is wrong: perhaps only one of two files was
    /// written so far.
    pub(crate) torn: bool,
}

impl From<Diagnostics> for Refused {
    fn from(problems: Diagnostics) -> Refused {
        Refused { problems, torn: false }
    }
}

/// Reads a configuration and every file that it names, but for those that name endpoints: these change without a reload. What is wrong with those files is found by [`Gathered::build`].
///
/// # Errors
/// What is wrong with the configuration file itself.
pub(crate) fn gather(path: &Path) -> Result<Gathered, Diagnostics> {
    gather_with(path, Staged::new())
}

/// The same as if these files were there, with this content.
///
/// # Errors
/// As [`gather`].
pub(crate) fn gather_with(path: &Path, staged: Staged) -> Result<Gathered, Diagnostics> {
    let begun = Instant::now();
    let mut files = Files::beside(staged);
    files.read(path, FileKind::Configuration);
    let content = files.content(path, FileKind::Configuration).map_err(|error| whole_file(path, &error))?;
    let source = String::from_utf8(content.to_owned()).map_err(|error| {
        Diagnostic::whole_file(
            path,
            format!("is not UTF-8 text ({})", error.utf8_error()),
            Some("save it as UTF-8".to_owned()),
        )
    })?;
    let config = ringward_config::parse_with(&source, path, &mut files)?;
    for named in config.files() {
        files.read(named.path, named.kind);
    }
    // Not among the files of the configuration if it is we who rotate it.
    if let Some(ring) = &config.keys.file {
        files.read(&ring.path, FileKind::KeyRing);
    }
    let certificates =
        config.listeners.iter().flat_map(|listener| &listener.hosts).flat_map(|host| &host.certificates);
    let passphrases = certificates
        .map(|certificate| &certificate.passphrase)
        .chain(config.upstream_certificates().map(|certificate| &certificate.passphrase));
    for passphrase in passphrases {
        if let Some(Passphrase::Credential { name, .. }) = passphrase
            && let Some(path) = credentials::credential_path(name)
        {
            files.read(&path, FileKind::Passphrase);
        }
    }
    Ok(Gathered { begun, config, files })
}

fn whole_file(path: &Path, error: &FileError) -> Diagnostic {
    let help = match error {
        FileError::Unreadable { missing: true, .. } => {
            Some("name the configuration file with `-c FILE`".to_owned())
        }
        other => other.help(),
    };
    Diagnostic::whole_file(path, error.to_string(), help)
}

impl Gathered {
    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// With something changed after it was read.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Config)) -> Gathered {
        change(&mut self.config);
        self
    }

    /// Digest of the content of all files.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.files.digest()
    }

    /// Every path whose change may matter.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        self.files.visited().map(Path::to_owned).collect()
    }

    /// The sources of the policy of this name, or of the only one. Nothing of it is checked yet.
    ///
    /// # Errors
    /// If there is no such policy, or one of its files cannot be read.
    pub(crate) fn policy_set(&self, name: Option<&str>) -> Result<PolicySet, Failure> {
        let policies = &self.config.policies;
        let policy = match name {
            Some(name) => policies.get(name),
            None if policies.len() == 1 => policies.values().next(),
            None => None,
        };
        let Some(policy) = policy else {
            let known: Vec<&String> = policies.keys().collect();
            return Err(Failure::Usage(match (name, known.as_slice()) {
                (_, []) => "the configuration has no policy".to_owned(),
                (Some(name), known) => format!("no policy `{name}`; there are {}", list(known)),
                (None, known) => format!("which policy? `--policy` takes one of {}", list(known)),
            }));
        };
        let mut report = Report { config: &self.config, found: Vec::new(), torn: 0 };
        policies::policy_set(policy, &self.files, &mut report).ok_or_else(|| {
            let mut problems = Diagnostics::new();
            problems.extend(report.found);
            Failure::Configuration(problems)
        })
    }

    /// Makes what a snapshot needs. Policies and revocation lists that did not change are taken from `previous`, the former
    /// with their workers' caches, and so is what is known of endpoints.
    /// Revocation lists must not be older than `floors`.
    ///
    /// # Errors
    /// Everything that is wrong, with the warnings found on the way.
    pub(crate) fn build(self, previous: Option<&Loaded>, floors: &CrlFloors) -> Result<Loaded, Refused> {
        let (digest, digests) = (self.digest(), Arc::new(self.files.digests()));
        let parts = PARTS.map(|(part, kinds)| (part, self.files.digest_of(kinds)));
        let Gathered { begun, config, files } = self;
        let found = config.warnings.iter().cloned().collect();
        let mut report = Report { config: &config, found, torn: 0 };
        let mut materials = Materials { tenants: config.tenant_map.clone(), ..Materials::default() };
        let (mut staples, none) = (HashMap::new(), HashMap::new());
        let last_staples = previous.map_or(&none, |previous| &previous.staples);
        let (mut beside, no_policies) = (report.beside(), HashMap::new());
        let known = previous.map_or(&no_policies, |previous| &previous.policies);
        // Lists may take longer than all the rest, and a policy's check is mostly waiting for its child process.
        let (policies, trusted) = background::both(
            || {
                for listener in &config.listeners {
                    for (index, host) in listener.hosts.iter().enumerate() {
                        let credentials =
                            credentials::load(host, &files, last_staples, &mut staples, &mut beside);
                        materials.credentials.insert((listener.name.clone(), index), credentials);
                    }
                }
                policies::load(&config, &files, known, &mut beside)
            },
            || {
                let mut trusted = trust::Trusted::default();
                for trust in config.trust.values() {
                    trusted.load(trust, &files, floors, previous, &mut report);
                }
                if let Some(previous) = previous {
                    for trust in config.trust.values() {
                        trusted.check_lost_lists(trust, previous, &mut report);
                        trusted.miss_lists(trust, &previous.lists, &mut report);
                    }
                }
                trusted
            },
        );
        report.absorb(beside);
        materials.trust = trusted.bundles;
        let key_ring = key_ring(&config, &files, &mut report);
        let fetch_tls = trust::fetch_tls(&config, &files, &mut report);
        let mut lists_of = upstream_lists::Loader::new(floors, previous);
        materials.upstream_tls = upstream_tls::load(&config, &files, &mut lists_of, previous, &mut report);
        materials.route_tls =
            upstream_tls::load_routes(&config, &files, &materials.upstream_tls, previous, &mut report);
        let upstream_lists::Loader { lists: upstream_lists, status, .. } = lists_of;
        let upstreams = upstream_health::Plan::new(
            &config,
            &materials.upstream_tls,
            previous.map(|previous| &*previous.upstreams),
        );
        let upstreams = upstreams.unwrap_or_else(|problems| {
            report.found.extend(problems);
            upstream_health::Plan::default()
        });
        materials.endpoints = upstreams.published();
        bodies::check(&config, &policies, &mut report);
        for (name, policy) in &policies {
            materials.policies.insert(name.clone(), policy.compiled.clone());
        }
        let Report { mut found, torn, .. } = report;
        // In the order of the configuration, then of the policies.
        let key = |problem: &Diagnostic| {
            let elsewhere = *problem.file != *config.file();
            (elsewhere, problem.file.clone(), problem.line, problem.column)
        };
        found.sort_by_cached_key(key);
        let errors = found.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
        if errors > 0 {
            let mut problems = Diagnostics::new();
            problems.extend(found);
            return Err(Refused { problems, torn: torn == errors });
        }
        Ok(Loaded {
            begun,
            config: Arc::new(config),
            materials,
            policies,
            quarantined: trusted.quarantined,
            issuers: trusted.issuers,
            lists: trusted.lists,
            lists_by_file: trusted.lists_by_file,
            upstream_lists,
            list_status: trusted.list_status.into_iter().chain(status).collect(),
            key_ring,
            fetch_tls,
            staples,
            upstreams: Arc::new(upstreams),
            warnings: found,
            digest,
            parts,
            files: digests,
        })
    }
}

/// The ring file, also if it is this process that rotates it: somebody else may replace it nevertheless.
fn key_ring(config: &Config, files: &Files, report: &mut Report<'_>) -> Option<Arc<KeyRing>> {
    let named = config.keys.file.as_ref()?;
    let content = files.content(&named.path, FileKind::KeyRing);
    let content = content.inspect_err(|error| report.file(&named.at, error)).ok()?;
    let ring = keys::parse(&named.path, content).inspect_err(|error| {
        let help = "`ringward keys new --file FILE` makes one".to_owned();
        report.error(&named.at, error.to_string(), Some(help));
    });
    Some(Arc::new(ring.ok()?.rotating_every(config.keys.rotate_every)))
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("digest", &hex::encode(&self.digest)).finish_non_exhaustive()
    }
}

impl Loaded {
    /// All revocation lists of files, of clients and of upstreams.
    pub(crate) fn all_lists(&self) -> impl Iterator<Item = &List> {
        self.lists.iter().chain(self.upstream_lists.values().flat_map(UpstreamLists::all))
    }

    /// Tenants whose clients are not looked up in revocation lists for now.
    pub(crate) fn suspensions(&self) -> Vec<Suspension> {
        let suspension = |tenant: &ringward_config::Tenant| {
            let until_unix = tenant.danger_suspend_revocation_until_unix?;
            Some(Suspension { tenant: tenant.name.as_str().into(), until_unix })
        };
        self.config.tenants.values().filter_map(suspension).collect()
    }

    /// Our certificates, by SHA-256 of the leaf's DER.
    pub(crate) fn leaves(&self) -> Vec<[u8; 32]> {
        let credentials = self.materials.credentials.values().flatten();
        credentials.map(|credential| *credential.fingerprint_sha256()).collect()
    }

    /// When the certificate of each virtual host expires, in seconds since 1970, by the host's first name.
    pub(crate) fn certificate_expiries(&self) -> Vec<(String, i64)> {
        let listeners = &self.config.listeners;
        let expiry = |listener: &Listener, index: usize, host: &Host| {
            let credentials = self.materials.credentials.get(&(listener.name.clone(), index))?;
            let soonest = credentials.iter().map(|credential| credential.not_after_unix()).min()?;
            Some((host.names[0].to_string(), soonest))
        };
        listeners
            .iter()
            .flat_map(|listener| {
                let hosts = listener.hosts.iter().enumerate();
                hosts.filter_map(move |(index, host)| expiry(listener, index, host))
            })
            .collect()
    }

    /// When the first CA of each trust bundle expires, in seconds since 1970, by the bundle's name.
    pub(crate) fn trust_expiries(&self) -> Vec<(String, i64)> {
        let soonest =
            |bundle: &TrustBundle| bundle.anchors().iter().map(|anchor| anchor.not_after_unix).min();
        self.materials
            .trust
            .iter()
            .filter_map(|(name, bundle)| Some((name.clone(), soonest(bundle)?)))
            .collect()
    }
}

/// What was found so far.
struct Report<'c> {
    config: &'c Config,
    found: Vec<Diagnostic>,
    /// Errors that say that a certificate and its key do not belong together.
    torn: usize,
}

impl<'c> Report<'c> {
    /// For what is done at the same time.
    fn beside(&self) -> Report<'c> {
        Report { config: self.config, found: Vec::new(), torn: 0 }
    }

    fn absorb(&mut self, beside: Report<'c>) {
        for diagnostic in beside.found {
            if !self.found.contains(&diagnostic) {
                self.found.push(diagnostic);
            }
        }
        self.torn += beside.torn;
    }

    fn error(&mut self, at: &Location, message: impl Into<String>, help: Option<String>) {
        self.push(Severity::Error, at, message.into(), help);
    }

    fn warning(&mut self, at: &Location, message: impl Into<String>) {
        self.push(Severity::Warning, at, message.into(), None);
    }

    fn file(&mut self, at: &Location, error: &FileError) {
        self.error(at, error.to_string(), error.help());
    }

    /// A certificate and its key do not belong together.
    fn torn(&mut self, at: &Location, message: String) {
        let known = self.found.len();
        self.error(at, message, None);
        self.torn += self.found.len() - known;
    }

    fn push(&mut self, severity: Severity, at: &Location, message: String, help: Option<String>) {
        let mut diagnostic = self.config.diagnostic(severity, at, message);
        diagnostic.help = help;
        // One key file may serve many hosts.
        if !self.found.contains(&diagnostic) {
            self.found.push(diagnostic);
        }
    }
}

/// `a`, `b` and 3 more.
fn list(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<String> =
        names.iter().take(NAMES_SHOWN).map(|name| format!("`{}`", name.as_ref())).collect();
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

const NAMES_SHOWN: usize = 5;
/// What nodes of a fleet are compared by. Certificates of our own and revocation lists have metrics with their times.
const PARTS: [(&str, &[FileKind]); 3] = [
    ("configuration", &[FileKind::Configuration]),
    ("policies", &[FileKind::Policy, FileKind::MatcherTable, FileKind::CedarPolicy]),
    ("trust", &[FileKind::TrustAnchors, FileKind::CrlIssuers]),
];
