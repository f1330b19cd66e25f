//! The proxies of a comparison: what they are called, where their programs are, and what they are given.

use std::env;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::pki::PkiFiles;
use super::process::Start;
use super::{caddy, envoy, haproxy, nginx, pingora, ringward};

/// A proxy that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proxy {
    Ringward,
    /// The same with its access log and its metrics on.
    RingwardWithLog,
    Nginx,
    Haproxy,
    Envoy,
    Caddy,
    Pingora,
}

/// What is to be known of a proxy.
pub(super) struct About {
    pub(super) name: &'static str,
    /// Its program, and the environment variable that names another one.
    pub(super) program: &'static str,
    pub(super) variable: &'static str,
    /// The arguments that make it say its version; none if it cannot.
    pub(super) version: &'static [&'static str],
    pub(super) source: Source,
    /// Writes its files and says how it is started in the foreground.
    pub(super) prepare: fn(&Setting<'_>) -> io::Result<Prepared>,
}

/// Where a proxy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A package of Debian.
    Apt(&'static str),
    /// A wheel from PyPI, with its version.
    Pip(&'static str),
    /// Nothing that can be installed.
    Own(&'static str),
}

/// What a proxy is to do: ask every client for a certificate, offer TLS 1.2 and 1.3 with session tickets, HTTP/1.1 and HTTP/2, write
/// no access log, and keep connections to the upstream.
pub(super) struct Setting<'a> {
    pub(super) listen: SocketAddr,
    /// In clear text, HTTP/1.1.
    pub(super) upstream: SocketAddr,
    /// For its files, and nothing else is in there.
    pub(super) dir: &'a Path,
    pub(super) files: &'a PkiFiles,
    /// `client-a` may use `/api/`, `/big/` and `/upload`, `client-b` may use `/public/`, and everything else gets 403.
    pub(super) policy: bool,
    /// Threads or processes that serve.
    pub(super) workers: usize,
    /// From clients, at the same time.
    pub(super) connections_max: u32,
}

impl Setting<'_> {
    /// Writes a file into its directory.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// What a proxy is started with.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) arguments: Vec<OsString>,
    pub(super) variables: Vec<(&'static str, OsString)>,
}

impl Prepared {
    pub(super) fn new(arguments: impl IntoIterator<Item = OsString>) -> Prepared {
        Prepared { arguments: arguments.into_iter().collect(), variables: Vec::new() }
    }

    /// With the program it makes something to start.
    pub(super) fn of(self, program: &Path) -> Start {
        Start { program: program.to_owned(), arguments: self.arguments, variables: self.variables }
    }
}

impl Proxy {
    pub(crate) const ALL: [Proxy; 7] = [
        Proxy::Ringward,
        Proxy::RingwardWithLog,
        Proxy::Nginx,
        Proxy::Haproxy,
        Proxy::Envoy,
        Proxy::Caddy,
        Proxy::Pingora,
    ];

    pub(super) fn about(self) -> &'static About {
        match self {
            Proxy::Ringward => &ringward::ABOUT,
            Proxy::RingwardWithLog => &ringward::ABOUT_WITH_LOG,
            Proxy::Nginx => &nginx::ABOUT,
            Proxy::Haproxy => &haproxy::ABOUT,
            Proxy::Envoy => &envoy::ABOUT,
            Proxy::Caddy => &caddy::ABOUT,
            Proxy::Pingora => &pingora::ABOUT,
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.about().name
    }

    /// Whether it is somebody else's: what Ringward is compared with.
    pub(super) fn is_peer(self) -> bool {
        !matches!(self, Proxy::Ringward | Proxy::RingwardWithLog)
    }

    /// What is wrong with the variable that names its program, if something is.
    pub(super) fn misnamed(self) -> Option<String> {
        let variable = self.about().variable;
        let named = PathBuf::from(env::var_os(variable)?);
        (!named.is_file()).then(|| format!("{variable} names `{}`, which is no file", named.display()))
    }

    /// Its program: the one that the variable names, else beside this one, in the cache, on the path, or where Debian has servers.
    pub(super) fn find(self, cache: &Path) -> Option<PathBuf> {
        let About { program, variable, .. } = self.about();
        if let Some(named) = env::var_os(variable) {
            return Some(PathBuf::from(named)).filter(|path| path.is_file());
        }
        let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
        let path = env::var_os("PATH").unwrap_or_default();
        let places = beside.into_iter().chain([cache.join("venv/bin")]).chain(env::split_paths(&path));
        places.chain(["/usr/sbin".into()]).map(|place| place.join(program)).find(|path| path.is_file())
    }
}

impl ValueEnum for Proxy {
    fn value_variants<'a>() -> &'a [Proxy] {
        &Proxy::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}
