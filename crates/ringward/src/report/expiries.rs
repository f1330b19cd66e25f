//! What ends soon: of the files of the configuration, and of what the running process has beyond them.

use serde::Serialize;

use crate::admin_socket::{Client, ClientError, Request};
use crate::load::Loaded;
use crate::trust::status::{CrlStatus, TrustStatus};

/// Something that ends.
#[derive(Debug, Serialize)]
pub(super) struct Expiry {
    pub(super) kind: Kind,
    /// Whose it is: a host, a CA with its bundle, a client with its tenant.
    pub(super) name: String,
    /// Seconds since 1970.
    pub(super) not_after_unix: i64,
}

/// What kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Of ours, for clients.
    Certificate,
    /// Of a trust bundle.
    Ca,
    /// Its next update.
    RevocationList,
    /// Until when it may be shown.
    Staple,
    /// Of a client, as the access log has it.
    Client,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Certificate => "certificate",
            Kind::Ca => "CA",
            Kind::RevocationList => "revocation list",
            Kind::Staple => "staple",
            Kind::Client => "client",
        }
    }
}

/// What the running process says.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    pub(super) version: String,
    pub(super) generation: u64,
    pub(super) deny_entries: usize,
    pub(super) connections: Option<usize>,
    /// Revocation lists in use, and those that are missing.
    pub(super) lists: Vec<CrlStatus>,
    #[serde(skip)]
    staples: Vec<(String, i64)>,
}

impl Node {
    /// Asks the process of this configuration; none if there is no way to it, or it does not run.
    ///
    /// # Errors
    /// Why it gives no answer.
    pub(super) fn ask(loaded: &Loaded) -> Result<Option<Node>, String> {
        let Some(socket) = &loaded.config.admin.socket else { return Ok(None) };
        let mut client = match Client::connect(&socket.path) {
            Err(ClientError::NotRunning { .. }) => return Ok(None),
            client => client.map_err(|error| error.to_string())?,
        };
        let status: TrustStatus = client.ask(Request::TrustStatus, &[]).map_err(|error| error.to_string())?;
        let staples = status.staples.into_iter();
        Ok(Some(Node {
            version: status.ringward,
            generation: status.generation,
            deny_entries: status.deny_entries,
            connections: status.connections,
            lists: status.crls,
            staples: staples.filter_map(|staple| Some((staple.host, staple.next_update_unix?))).collect(),
        }))
    }
}

/// What ends within the next thirty days, or has ended.
pub(super) fn of(loaded: &Loaded, node: Option<&Node>, now: i64) -> Vec<Expiry> {
    let mut all = Vec::new();
    let mut add = |kind: Kind, name: String, not_after_unix: i64| {
        if not_after_unix - now <= SOON_SECONDS {
            all.push(Expiry { kind, name, not_after_unix });
        }
    };
    for (host, not_after) in loaded.certificate_expiries() {
        add(Kind::Certificate, host, not_after);
    }
    for (name, bundle) in &loaded.materials.trust {
        for ca in bundle.anchors() {
            add(Kind::Ca, format!("{} of {name}", ca.subject), ca.not_after_unix);
        }
    }
    let lists = node.map_or(&loaded.list_status, |node| &node.lists);
    for list in lists {
        // Lists end all the time. What matters is one that was not replaced.
        if let Some(next_update) = list.next_update_unix.filter(|next_update| *next_update <= now) {
            add(Kind::RevocationList, format!("{} from {}", list.issuer, list.source), next_update);
        }
    }
    let staples = node.map(|node| node.staples.as_slice()).unwrap_or_default();
    for (host, next_update) in staples.iter().filter(|(_, next_update)| *next_update <= now) {
        add(Kind::Staple, host.clone(), *next_update);
    }
    all
}

/// As the first alert about a certificate.
pub(super) const SOON_SECONDS: i64 = 30 * 86_400;
