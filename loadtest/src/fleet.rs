//! Fleets: all certificates and keys that a load test needs, made into a directory (`ringward-load pki`) and read back.
//!
//! Hides what a fleet looks like on disk: `Files` names what a gateway and whoever runs it want, `clients/CLASS.pem` has the
//! identities of one class. Nothing in here is fit for production: keys lie unencrypted, and no key of an authority is kept.

use std::fmt;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use serde::{Deserialize, Serialize};

pub(crate) mod authority;
mod configs;
mod make;
mod read;

pub(crate) use configs::client_configs;
pub(crate) use make::make;
pub(crate) use read::identities;

/// Arguments of `ringward-load pki`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PkiArguments {
    /// Where to make it: a directory that is new, or empty.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) plan: FleetPlan,
}

/// What a fleet has.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct FleetPlan {
    /// A name of the gateway, for its certificate; again for each further one. 127.0.0.1 is always in it.
    #[arg(long = "server-name", value_name = "NAME", default_values = SERVER_NAMES)]
    pub(crate) server_names: Vec<String>,
    /// How many certificate authorities clients are from, each a root with one intermediate.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) authorities: u32,
    /// How many tenants (organizations) clients are from.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) tenants: u32,
    /// How many clients are right in every way.
    #[arg(long = "clients", value_name = "N", default_value_t = 100)]
    pub(crate) valid: u32,
    /// How many have a certificate that ended yesterday.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) expired: u32,
    /// How many have a certificate that begins when those of the others end.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) not_yet_valid: u32,
    /// How many are in the revocation list of their authority.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) revoked: u32,
    /// How many are from an authority that nobody trusts.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) wrong_ca: u32,
    /// How many have a certificate for servers alone.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) no_client_auth: u32,
    /// The type of the clients' keys. All others are P-256. An RSA key takes a tenth of a second.
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = KeyType::P256)]
    pub(crate) key_type: KeyType,
    /// How many days certificates are valid from now on.
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub(crate) valid_days: u32,
}

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyType {
    /// ECDSA with P-256.
    P256,
    /// RSA with 2048 bits.
    Rsa2048,
    /// Ed25519.
    Ed25519,
}

/// What there is to say about an identity, right or wrong. Only `Valid` is to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Class {
    /// Right in every way.
    Valid,
    /// Its certificate has ended.
    Expired,
    /// Its certificate has not begun.
    NotYetValid,
    /// Its certificate is in the revocation list of its issuer.
    Revoked,
    /// Its chain leads to a root that is not among those of the clients.
    WrongCa,
    /// Its certificate is for servers (extended key usage).
    NoClientAuth,
}

/// A client: a chain with its key.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The common name of its certificate.
    pub(crate) name: String,
    /// Leaf first, then what leads to the root, without the root.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Where things are in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// The gateway's leaf and intermediate.
    pub(crate) server_chain: PathBuf,
    pub(crate) server_key: PathBuf,
    /// The root that clients trust.
    pub(crate) server_ca: PathBuf,
    /// The roots that the gateway has to trust.
    pub(crate) client_ca: PathBuf,
    /// The intermediates below those, for gateways that want to know who signs revocation lists before a client shows it.
    pub(crate) client_issuers: PathBuf,
    /// The lists of all who issue for clients: intermediates and roots.
    pub(crate) client_crl: PathBuf,
    /// What was made, in words for people. Written last: without it the rest is not all there.
    pub(crate) summary: PathBuf,
    clients: PathBuf,
}

/// Why a fleet cannot be made, or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetError {
    #[error("{argument} {value}: must be a number from {} to {}", .allowed.start(), .allowed.end())]
    Number { argument: &'static str, value: u32, allowed: RangeInclusive<u32> },
    #[error("--server-name {0:?} is neither a host name nor an IP address")]
    ServerName(String),
    #[error("`{}` is not empty, and nothing is overwritten: name a new directory", .0.display())]
    NotEmpty(PathBuf),
    #[error("`{}` cannot be written: {reason}", .path.display())]
    Write { path: PathBuf, reason: io::Error },
    #[error("the certificate of {subject} cannot be made: {reason}")]
    Certificate { subject: String, reason: rcgen::Error },
    #[error("there are no random numbers")]
    Random,
    #[error("`{}` cannot be read: {reason}", .path.display())]
    Read { path: PathBuf, reason: io::Error },
    #[error("`{}` is no whole fleet, since it has no fleet.toml: make it again (`ringward-load pki`)", .0.display())]
    Unfinished(PathBuf),
    #[error("`{}` has no identities of class {class}: make some (`ringward-load pki {} N`)", .dir.display(), .class.argument())]
    NoneOfClass { dir: PathBuf, class: Class },
    #[error("`{}`, identity {identity}: {reason}", .file.display())]
    Pem { file: PathBuf, identity: usize, reason: pem::Error },
    #[error("`{}`, identity {identity}: {reason}", .file.display())]
    Malformed { file: PathBuf, identity: usize, reason: &'static str },
    #[error("the identity {name} cannot be used: {reason}")]
    Identity { name: String, reason: rustls::Error },
    #[error("`{0}` is no class of identities: one of {list}", list = Class::ALL.map(Class::name).join(", "))]
    UnknownClass(String),
}

impl FleetPlan {
    /// How many identities of a class there are to be.
    pub(crate) fn count(&self, class: Class) -> u32 {
        match class {
            Class::Valid => self.valid,
            Class::Expired => self.expired,
            Class::NotYetValid => self.not_yet_valid,
            Class::Revoked => self.revoked,
            Class::WrongCa => self.wrong_ca,
            Class::NoClientAuth => self.no_client_auth,
        }
    }

    /// The classes that there are to be, with the numbers of their identities. No number is used twice.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (Class, Range<u32>)> {
        let mut next = 0;
        Class::ALL.into_iter().filter_map(move |class| {
            let begin = next;
            next += self.count(class);
            (begin < next).then_some((class, begin..next))
        })
    }

    /// Whether all of it can be made.
    fn check(&self) -> Result<(), FleetError> {
        let numbers = [
            ("--authorities", self.authorities, 1..=AUTHORITIES_MAX),
            ("--tenants", self.tenants, 1..=TENANTS_MAX),
            ("--valid-days", self.valid_days, 1..=VALID_DAYS_MAX),
        ];
        let counts = Class::ALL.map(|class| (class.argument(), self.count(class), 0..=IDENTITIES_MAX));
        for (argument, value, allowed) in numbers.into_iter().chain(counts) {
            if !allowed.contains(&value) {
                return Err(FleetError::Number { argument, value, allowed });
            }
        }
        Ok(())
    }
}

impl Default for FleetPlan {
    /// As the command line has it.
    fn default() -> FleetPlan {
        FleetPlan {
            server_names: SERVER_NAMES.map(str::to_owned).to_vec(),
            authorities: 1,
            tenants: 10,
            valid: 100,
            expired: 10,
            not_yet_valid: 10,
            revoked: 10,
            wrong_ca: 10,
            no_client_auth: 10,
            key_type: KeyType::P256,
            valid_days: 7,
        }
    }
}

impl Class {
    pub(crate) const ALL: [Class; 6] = [
        Class::Valid,
        Class::Expired,
        Class::NotYetValid,
        Class::Revoked,
        Class::WrongCa,
        Class::NoClientAuth,
    ];

    /// As in file names and scenarios.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Class::Valid => "valid",
            Class::Expired => "expired",
            Class::NotYetValid => "not_yet_valid",
            Class::Revoked => "revoked",
            Class::WrongCa => "wrong_ca",
            Class::NoClientAuth => "no_client_auth",
        }
    }

    /// Says how many there are to be.
    fn argument(self) -> &'static str {
        match self {
            Class::Valid => "--clients",
            Class::Expired => "--expired",
            Class::NotYetValid => "--not-yet-valid",
            Class::Revoked => "--revoked",
            Class::WrongCa => "--wrong-ca",
            Class::NoClientAuth => "--no-client-auth",
        }
    }

    /// Whether a gateway has to let it in.
    pub(crate) fn is_right(self) -> bool {
        self == Class::Valid
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Class {
    type Err = FleetError;

    fn from_str(text: &str) -> Result<Class, FleetError> {
        let found = Class::ALL.into_iter().find(|class| class.name() == text);
        found.ok_or_else(|| FleetError::UnknownClass(text.to_owned()))
    }
}

impl Files {
    /// Those of this directory.
    pub(crate) fn of(dir: &Path) -> Files {
        Files {
            server_chain: dir.join("server.pem"),
            server_key: dir.join("server.key"),
            server_ca: dir.join("server-ca.pem"),
            client_ca: dir.join("client-ca.pem"),
            client_issuers: dir.join("client-issuers.pem"),
            client_crl: dir.join("client-crl.pem"),
            summary: dir.join("fleet.toml"),
            clients: dir.join("clients"),
        }
    }

    /// The identities of a class, one after the other: key, leaf, intermediates.
    pub(crate) fn class(&self, class: Class) -> PathBuf {
        self.clients.join(format!("{class}.pem"))
    }
}

/// Names of the gateway that a test on one machine gets along with.
const SERVER_NAMES: [&str; 2] = ["api.example.com", "localhost"];
/// More than gateways are given: each of them is named to every client (RFC 8446 §4.2.4).
const AUTHORITIES_MAX: u32 = 100;
const TENANTS_MAX: u32 = 100_000;
/// Ten years.
const VALID_DAYS_MAX: u32 = 3650;
/// Of each class: more than a machine has ports for, and 2 GB of files.
const IDENTITIES_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests;
