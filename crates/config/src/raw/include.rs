//! `[[include]]`: a configuration in several files, each with its owner.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Field, OneOrMany};

/// `[[include]]`: other files that are part of this configuration, and what they may say. The file that names them decides
/// what their owners decide: a file that says more is refused, and with it the whole configuration.
///
/// Included files are read as strictly as this one, in the order of the entries and, of one entry, of their names. Paths in them
/// begin at their own directory. What is defined twice is refused, wherever it stands; no file overrides another. Included
/// files include nothing themselves. All of them are watched, and so are the directories that `*` looks into.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[[include]]", default, deny_unknown_fields)]
pub struct Include {
    /// The file; or with one `*` in its last part, which stands for any characters, all files of a directory that are called
    /// so, but for those whose names begin with a dot. There may be none yet; the directory has to be there.
    ///
    /// Required. Example: `path = "partners.d/*.toml"`.
    pub path: Field<String>,
    /// The sections that these files may have: `"trust"`, `"tenant"`, `"policy"`, `"cluster"`, `"listener"`, `"host"` (hosts
    /// for listeners of other files, as `[[host]]`), `"route"` (routes for hosts of other files, as `[[route]]`), `"server"`,
    /// `"admin"`, `"log"` and `"keys"`.
    ///
    /// Required; at least one. Example: `may_define = ["trust", "tenant"]`.
    pub may_define: Field<Vec<Field<Section>>>,
    /// What the bundles, tenants, policies and clusters of these files may be called: names, or with `*` at the end all that
    /// begin so, and so the bundles that their tenants have. A host that trusts `"partner-*"` then trusts what these files add, and
    /// nothing that others do.
    ///
    /// Default: anything; up to 64. Example: `names = ["partner-*"]`.
    pub names: Field<OneOrMany>,
    /// `true` lets these files have keys that weaken something, those that begin with `danger_`.
    ///
    /// Default `false`. Example: `may_weaken = true`.
    pub may_weaken: Field<bool>,
}

/// Values of `may_define` in `[[include]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "include.may_define", rename_all = "snake_case")]
pub enum Section {
    /// `[server]`.
    Server,
    /// `[admin]`.
    Admin,
    /// `[log]`.
    Log,
    /// `[keys]`.
    Keys,
    /// `[trust.NAME]`.
    Trust,
    /// `[tenant.NAME]`.
    Tenant,
    /// `[policy.NAME]`.
    Policy,
    /// `[cluster.NAME]`.
    Cluster,
    /// `[[listener]]`.
    Listener,
    /// `[[host]]`.
    Host,
    /// `[[route]]`.
    Route,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Admin => "admin",
            Self::Log => "log",
            Self::Keys => "keys",
            Self::Trust => "trust",
            Self::Tenant => "tenant",
            Self::Policy => "policy",
            Self::Cluster => "cluster",
            Self::Listener => "listener",
            Self::Host => "host",
            Self::Route => "route",
        })
    }
}
