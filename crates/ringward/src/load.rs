//! From the path of a configuration file to everything that a snapshot is built from.
//!
//! Two steps, so that a reload can stop after the first: [`gather`] reads all files, [`Gathered::build`] makes
//! credentials, trust bundles and policies of them. All problems are reported at once, each at the place of the
//! configuration that names the file. Never falls back to fewer checks because a file is broken.

pub(crate) mod files;
mod policies;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringward_config::{
    Certificate, Config, Diagnostic, Diagnostics, FileKind, Host, HostPattern, Listener, Location, NamedPath,
    Severity, Trust,
};
use ringward_proxy::Materials;
use ringward_tls::{Credential, CredentialOptions, CredentialSource, TrustBundle};
use rustls::pki_types::UnixTime;

use self::files::{FileError, Files};
pub(crate) use self::policies::LoadedPolicy;

/// A configuration with the content of all files that it names.
#[derive(Debug)]
pub(crate) struct Gathered {
    config: Config,
    files: Files,
}

/// A configuration with everything that it needs to run.
pub(crate) struct Loaded {
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// What was made of its files.
    pub(crate) materials: Materials,
    /// Its policies by name, with what their check found out.
    pub(crate) policies: HashMap<String, LoadedPolicy>,
    /// What works, but deserves a look.
    pub(crate) warnings: Vec<Diagnostic>,
    /// Digest of all that was read.
    pub(crate) digest: [u8; 32],
}

/// Reads a configuration and every file that it names. What is wrong with those files is found by [`Gathered::build`].
///
/// # Errors
/// What is wrong with the configuration file itself.
pub(crate) fn gather(path: &Path) -> Result<Gathered, Diagnostics> {
    let mut files = Files::default();
    files.read(path, FileKind::Configuration);
    let content = files.content(path, FileKind::Configuration).map_err(|error| whole_file(path, &error))?;
    let source = str::from_utf8(content).map_err(|error| {
        Diagnostic::whole_file(
            path,
            format!("is not UTF-8 text ({error})"),
            Some("save it as UTF-8".to_owned()),
        )
    })?;
    let config = ringward_config::parse(source, path)?;
    for named in config.files() {
        files.read(named.path, named.kind);
    }
    Ok(Gathered { config, files })
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
    /// Digest of the content of all files.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.files.digest()
    }

    /// Every path whose change may matter.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        self.files.visited().map(Path::to_owned).collect()
    }

    /// Makes what a snapshot needs. Policies that did not change are taken from `previous`, with their workers' caches.
    ///
    /// # Errors
    /// Everything that is wrong, with the warnings found on the way.
    pub(crate) fn build(self, previous: &HashMap<String, LoadedPolicy>) -> Result<Loaded, Diagnostics> {
        let digest = self.digest();
        let Gathered { config, files } = self;
        let mut report = Report { config: &config, found: config.warnings.iter().cloned().collect() };
        let mut materials = Materials::default();
        for listener in &config.listeners {
            for (index, host) in listener.hosts.iter().enumerate() {
                if let Some(credential) = credential(host, &files, &mut report) {
                    materials.credentials.insert((listener.name.clone(), index), Arc::new(credential));
                }
            }
        }
        for trust in config.trust.values() {
            if let Some(bundle) = trust_bundle(trust, &files, &mut report) {
                materials.trust.insert(trust.name.clone(), Arc::new(bundle));
            }
        }
        let policies = policies::load(&config, &files, previous, &mut report);
        for (name, policy) in &policies {
            materials.policies.insert(name.clone(), policy.compiled.clone());
        }
        let mut found = report.found;
        // In the order of the configuration, then of the policies.
        let key = |problem: &Diagnostic| {
            let elsewhere = *problem.file != *config.file();
            (elsewhere, problem.file.clone(), problem.line, problem.column)
        };
        found.sort_by_cached_key(key);
        if found.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
            let mut all = Diagnostics::new();
            all.extend(found);
            return Err(all);
        }
        Ok(Loaded { config: Arc::new(config), materials, policies, warnings: found, digest })
    }
}

impl Loaded {
    /// When the certificate of each virtual host expires, in seconds since 1970, by the host's first name.
    pub(crate) fn certificate_expiries(&self) -> Vec<(String, i64)> {
        let listeners = &self.config.listeners;
        let expiry = |listener: &Listener, index: usize, host: &Host| {
            let credential = self.materials.credentials.get(&(listener.name.clone(), index))?;
            Some((host.names[0].to_string(), credential.not_after_unix()))
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
pub(crate) struct Report<'c> {
    config: &'c Config,
    found: Vec<Diagnostic>,
}

impl Report<'_> {
    fn error(&mut self, at: &Location, message: impl Into<String>, help: Option<String>) {
        self.push(Severity::Error, at, message.into(), help);
    }

    fn warning(&mut self, at: &Location, message: impl Into<String>) {
        self.push(Severity::Warning, at, message.into(), None);
    }

    fn file(&mut self, at: &Location, error: &FileError) {
        self.error(at, error.to_string(), error.help());
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

fn credential(host: &Host, files: &Files, report: &mut Report<'_>) -> Option<Credential> {
    let Certificate { chain, key, at } = &host.certificate;
    let mut content = |named: &NamedPath, kind| {
        files.content(&named.path, kind).inspect_err(|error| report.file(&named.at, error)).ok()
    };
    let (chain_pem, key_pem) =
        (content(chain, FileKind::CertificateChain), content(key, FileKind::PrivateKey));
    let (chain_pem, key_pem) = (chain_pem?, key_pem?);
    let source = CredentialSource { chain_file: &chain.path, chain_pem, key_file: &key.path, key_pem };
    let options = CredentialOptions { allow_expired: host.danger_allow_expired_certificate };
    let credential = Credential::from_pem(&source, options, UnixTime::now())
        .inspect_err(|error| report.error(at, error.to_string(), None))
        .ok()?;
    for warning in credential.warnings() {
        report.warning(&chain.at, warning.to_string());
    }
    let names: Vec<String> = host.names.iter().map(HostPattern::to_string).collect();
    let uncovered = credential.uncovered(names.iter().map(String::as_str));
    if !uncovered.is_empty() {
        let message = format!(
            "the certificate in `{}` is not for {}: clients that ask for it will refuse the connection; it is for {}",
            chain.path.display(),
            list(&uncovered),
            list(credential.names()),
        );
        // With none of the names it is the wrong file. With some it may be a name that only default_host answers.
        if uncovered.len() == names.len() && !credential.names().is_empty() {
            let help = "use a certificate for these names, or correct `names`".to_owned();
            report.error(&chain.at, message, Some(help));
            return None;
        }
        report.warning(&chain.at, message);
    }
    Some(credential)
}

fn trust_bundle(trust: &Trust, files: &Files, report: &mut Report<'_>) -> Option<TrustBundle> {
    let mut sources = Vec::new();
    let mut complete = true;
    for named in &trust.ca {
        for entry in files.entries(&named.path, FileKind::TrustAnchors) {
            match &entry.content {
                Ok(content) => sources.push((entry.path.clone(), content.to_vec())),
                Err(error) => {
                    report.file(&named.at, error);
                    complete = false;
                }
            }
        }
    }
    // With a part of the bundle some clients would be locked out, for a reason that may be gone in a moment.
    if !complete {
        return None;
    }
    let at = trust.ca.first().map_or(&trust.at, |named| &named.at);
    match TrustBundle::from_pem(&trust.name, &sources, UnixTime::now()) {
        Err(error) => {
            report.error(at, error.to_string(), None);
            None
        }
        Ok((bundle, _)) if is_of_the_public_web(&bundle) => {
            let shown: Vec<&str> = bundle.anchors().iter().map(|anchor| anchor.subject.as_str()).collect();
            let message =
                format!("trust bundle `{}` holds CAs of the public web: {}", trust.name, list(&shown));
            let help =
                "they sign for everybody, so everybody would be trusted: keep the CAs of your clients only";
            report.error(at, message, Some(help.to_owned()));
            None
        }
        Ok((bundle, quarantined)) => {
            for certificate in &quarantined {
                report.warning(at, format!("left out of trust bundle `{}`: {certificate}", trust.name));
            }
            for warning in bundle.warnings() {
                report.warning(at, format!("trust bundle `{}`: {warning}", trust.name));
            }
            Some(bundle)
        }
    }
}

/// Whether a bundle looks like the one that systems and browsers ship, under whatever name it is kept here. Told by a few
/// roots that every such bundle has; one of them alone may be there for a reason.
fn is_of_the_public_web(bundle: &TrustBundle) -> bool {
    let known =
        |root: &&&str| bundle.anchors().iter().any(|anchor| anchor.subject.contains(&format!("CN={root}")));
    WEB_ROOTS.iter().filter(known).count() > 1
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
/// Long-lived roots of different organisations.
const WEB_ROOTS: &[&str] = &[
    "Amazon Root CA 1",
    "DigiCert Global Root G2",
    "GlobalSign Root CA",
    "GTS Root R1",
    "ISRG Root X1",
    "Microsoft RSA Root Certificate Authority 2017",
    "USERTrust RSA Certification Authority",
];
