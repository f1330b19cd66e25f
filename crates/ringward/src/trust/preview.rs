//! Whom a change of trust would hit, without making it.
//!
//! The open connections are counted by the workers, and each client is judged by a snapshot that has the change and is never
//! put in force: by the very code that would judge it afterwards.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use ringward_config::Config;
use ringward_proxy::{Control, LivePeer, Snapshot};
use ringward_tls::{PathMemo, WorkerTls};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::table::{Table, moment, printable};

/// Open connections that a change ends, by client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hits {
    /// Connections that were looked at.
    pub(crate) examined: usize,
    /// Those that are hit.
    pub(crate) connections: usize,
    /// Their clients, those with the most connections first.
    pub(crate) clients: Vec<Hit>,
    /// Further clients, which are not listed.
    pub(crate) clients_omitted: usize,
}

/// A client with open connections that a change ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hit {
    /// Who, as in logs.
    pub(crate) identity: String,
    /// Whose client.
    pub(crate) tenant: Option<String>,
    /// SHA-256 of its certificate, hexadecimal.
    pub(crate) fingerprint_sha256: String,
    /// The listener.
    pub(crate) listener: String,
    /// The server name of the handshake.
    pub(crate) server_name: Option<String>,
    /// Its connections there.
    pub(crate) connections: usize,
    /// Those of them with a request in flight.
    pub(crate) busy: usize,
    /// Address of one of them.
    pub(crate) address: String,
    /// When the oldest was accepted, seconds since 1970.
    pub(crate) since_unix: u64,
    /// Why it is hit.
    pub(crate) reason: String,
}

/// The answer to `trust preview`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FilePreview {
    /// What the file is called.
    pub(crate) file: String,
    /// What would change if it were in force.
    pub(crate) change: String,
    /// Whom that would hit.
    pub(crate) hits: Hits,
}

/// Counts the connections for which there is a reason.
pub(crate) fn tally(peers: &[LivePeer], mut reason: impl FnMut(&LivePeer) -> Option<String>) -> Hits {
    let mut clients: HashMap<(String, &str, Option<&str>), Hit> = HashMap::new();
    let mut connections = 0;
    for peer in peers {
        let Some(reason) = reason(peer) else { continue };
        connections += 1;
        let fingerprint =
            peer.peer.as_ref().map_or_else(String::new, |peer| peer.fingerprint_hex().to_owned());
        let key = (fingerprint.clone(), &*peer.listener, peer.server_name.as_deref());
        let hit = clients.entry(key).or_insert_with(|| Hit {
            identity: peer
                .peer
                .as_ref()
                .map_or_else(|| "nobody".to_owned(), |peer| peer.identity().to_owned()),
            tenant: peer.peer.as_ref().and_then(|peer| peer.tenant().map(str::to_owned)),
            fingerprint_sha256: fingerprint,
            listener: peer.listener.to_string(),
            server_name: peer.server_name.as_deref().map(str::to_owned),
            connections: 0,
            busy: 0,
            address: peer.peer_addr.to_string(),
            since_unix: peer.since_unix,
            reason,
        });
        hit.connections += 1;
        hit.busy += usize::from(!peer.idle);
        hit.since_unix = hit.since_unix.min(peer.since_unix);
    }
    let mut clients: Vec<Hit> = clients.into_values().collect();
    clients.sort_by(|a, b| {
        let order = |hit: &Hit| {
            (std::cmp::Reverse(hit.connections), hit.identity.clone(), hit.fingerprint_sha256.clone())
        };
        order(a).cmp(&order(b))
    });
    let clients_omitted = clients.len().saturating_sub(CLIENTS_LISTED);
    clients.truncate(CLIENTS_LISTED);
    Hits { examined: peers.len(), connections, clients, clients_omitted }
}

/// Who is connected, by the word of all workers. `None` if one of them does not answer in time.
pub(crate) async fn census(control: &Control) -> Option<Vec<LivePeer>> {
    let number = control.start_census();
    tokio::time::timeout(CENSUS_TIMEOUT, async {
        loop {
            if let Some(peers) = control.take_census(number) {
                return peers;
            }
            tokio::time::sleep(CENSUS_PAUSE).await;
        }
    })
    .await
    .ok()
}

/// The clients that the snapshot in force (`now`) admits and `then` would not. Both are of `config`'s listeners. Takes a
/// signature check for each certificate chain, so it is not for the control thread.
pub(crate) fn compare(now: &Snapshot, then: &Snapshot, config: &Config, peers: &[LivePeer]) -> Hits {
    let (mut now, mut then) = (Judge::new(now, config), Judge::new(then, config));
    tally(peers, |peer| {
        // Who is refused already is ended by what is in force, not by the change.
        now.verdict(peer).ok()?;
        then.verdict(peer).err()
    })
}

/// Judges clients as a worker with this snapshot would.
struct Judge<'s> {
    snapshot: &'s Snapshot,
    config: &'s Config,
    memo: PathMemo,
    views: HashMap<(usize, usize), Option<WorkerTls>>,
    hosts: HashMap<String, ringward_config::HostTable<usize>>,
}

impl<'s> Judge<'s> {
    fn new(snapshot: &'s Snapshot, config: &'s Config) -> Judge<'s> {
        let hosts =
            config.listeners.iter().map(|listener| (listener.name.clone(), listener.host_table())).collect();
        Judge { snapshot, config, memo: PathMemo::new(MEMO_ENTRIES), views: HashMap::new(), hosts }
    }

    fn verdict(&mut self, peer: &LivePeer) -> Result<(), String> {
        let gone = || "its listener or virtual host is gone".to_owned();
        let listeners = &self.config.listeners;
        let index =
            listeners.iter().position(|listener| *listener.name == *peer.listener).ok_or_else(gone)?;
        let listener = &listeners[index];
        let named =
            peer.server_name.as_deref().and_then(|name| self.hosts[&listener.name].lookup(name).copied());
        let host = named.or(listener.default_host).ok_or_else(gone)?;
        let view = self
            .views
            .entry((index, host))
            .or_insert_with(|| self.snapshot.host_tls(&listener.name, host)?.worker_view(&self.memo).ok());
        let view = view.as_ref().ok_or_else(gone)?;
        let chain: Vec<CertificateDer<'static>> =
            peer.path.iter().flat_map(|path| path.presented()).cloned().collect();
        view.admit(&chain).map(drop).map_err(|failure| failure.to_string())
    }
}

impl fmt::Display for FilePreview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FilePreview { file, change, hits } = self;
        writeln!(f, "{}: {}", printable(file), printable(change))?;
        write!(f, "would end {hits}")
    }
}

impl fmt::Display for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hits { examined, connections, clients, clients_omitted } = self;
        let whose = clients.len() + clients_omitted;
        writeln!(f, "{connections} of {examined} open connections, of {whose} clients")?;
        let mut table =
            Table::new(&["client", "tenant", "listener", "name", "open", "busy", "since", "from", "SHA-256"]);
        for hit in clients {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            table.row([
                hit.identity.clone(),
                or_none(&hit.tenant),
                hit.listener.clone(),
                or_none(&hit.server_name),
                hit.connections.to_string(),
                hit.busy.to_string(),
                moment(i64::try_from(hit.since_unix).unwrap_or(i64::MAX)),
                hit.address.clone(),
                hit.fingerprint_sha256.clone(),
            ]);
        }
        write!(f, "{table}")?;
        let mut reasons: Vec<&str> = clients.iter().map(|hit| hit.reason.as_str()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        for reason in reasons {
            writeln!(f, "  because: {}", printable(reason))?;
        }
        if *clients_omitted > 0 {
            writeln!(f, "  and {clients_omitted} more clients")?;
        }
        Ok(())
    }
}

/// More would not be read, and the answer has to fit into a line.
const CLIENTS_LISTED: usize = 1000;
/// Chains of the clients of a large node; the others are verified once more.
const MEMO_ENTRIES: usize = 16 << 10;
/// A worker answers at its next beat, 20 times per second, unless a policy holds it up.
const CENSUS_TIMEOUT: Duration = Duration::from_secs(2);
const CENSUS_PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(listener: &str, name: Option<&str>, port: u16, idle: bool) -> LivePeer {
        LivePeer {
            connection_id: u64::from(port),
            listener: listener.into(),
            server_name: name.map(Into::into),
            peer_addr: ([192, 0, 2, 1], port).into(),
            peer: None,
            path: None,
            since_unix: u64::from(port),
            idle,
        }
    }

    #[test]
    fn connections_are_counted_by_client_and_place() {
        let peers = [
            peer("edge", Some("b.example.com"), 3, true),
            peer("edge", Some("a.example.com"), 9, true),
            peer("edge", Some("a.example.com"), 7, false),
            peer("other", Some("a.example.com"), 5, true),
        ];
        let hits = tally(&peers, |peer| (peer.connection_id != 5).then(|| "gone".to_owned()));
        assert_eq!((hits.examined, hits.connections, hits.clients.len(), hits.clients_omitted), (4, 3, 2, 0));
        let first = &hits.clients[0];
        assert_eq!((first.connections, first.busy, first.since_unix), (2, 1, 7));
        assert_eq!(first.server_name.as_deref(), Some("a.example.com"));
        let text = hits.to_string();
        assert!(
            text.starts_with("3 of 4 open connections, of 2 clients\n") && text.contains("because: gone"),
            "{text}"
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> =
            (0..=CLIENTS_LISTED).map(|number| format!("n{number}.example.com")).collect();
        let peers: Vec<LivePeer> = names.iter().map(|name| peer("edge", Some(name), 1, true)).collect();
        let hits = |peers: &[LivePeer]| tally(peers, |_| Some("gone".to_owned()));
        let at_limit = hits(&peers[1..]);
        assert_eq!((at_limit.clients.len(), at_limit.clients_omitted), (CLIENTS_LISTED, 0));
        let above = hits(&peers);
        assert_eq!(
            (above.connections, above.clients.len(), above.clients_omitted),
            (CLIENTS_LISTED + 1, CLIENTS_LISTED, 1)
        );
    }
}
