//! The events of trust: revocations, suspensions of their look-up, and the connections that a change has ended.
//!
//! Gives each a constant message and constant members, so that an alert or an auditor's query stays true. `deploy/manual/logs.md` lists
//! them.

use crate::closed::Level;
use crate::json;
use crate::record::{ConnectionFacts, EventRecord, Excerpt};

/// What was put on the deny list, or taken off it.
#[derive(Clone, Debug)]
pub struct RevocationEvent {
    /// What kind of thing `value` names: `serial`, `spki`, `fingerprint`, `identity` or `ca`.
    pub kind: &'static str,
    /// What is revoked.
    pub value: Excerpt,
    /// Why, in the operator's words.
    pub reason: Excerpt,
    /// Who did it, such as `uid 0`.
    pub by: Excerpt,
    /// Until when, in seconds since 1970; `None` for ever.
    pub expires_unix: Option<i64>,
}

impl EventRecord {
    /// An entry of the deny list is on disk and in force on every worker; `connections` live ones were affected.
    pub fn revoked(time_unix_ns: u64, event: RevocationEvent, connections: u64) -> EventRecord {
        let mut record = EventRecord::of_revocation(time_unix_ns, "revoked", event);
        record.fields.push(("connections", connections.to_string().into()));
        record
    }

    /// An entry was taken off the deny list.
    pub fn revocation_removed(time_unix_ns: u64, event: RevocationEvent) -> EventRecord {
        EventRecord::of_revocation(time_unix_ns, "revocation removed", event)
    }

    /// Revocation is not looked up for a tenant until then, in seconds since 1970.
    pub fn revocation_suspended(time_unix_ns: u64, tenant: &str, until_unix: i64) -> EventRecord {
        let fields = vec![("tenant", tenant.into()), ("until", json::time_text(until_unix).into())];
        EventRecord { time_unix_ns, level: Level::Warn, message: "revocation suspended", fields }
    }

    /// Revocation is looked up again for a tenant.
    pub fn revocation_resumed(time_unix_ns: u64, tenant: &str) -> EventRecord {
        let fields = vec![("tenant", tenant.into())];
        EventRecord { time_unix_ns, level: Level::Info, message: "revocation no longer suspended", fields }
    }

    /// A connection was ended because its client would not be let in any more; `reason` as in
    /// `ringward_connections_closed_total`, `detail` as a handshake would be refused.
    pub fn connection_ended(
        time_unix_ns: u64,
        facts: &ConnectionFacts,
        reason: &'static str,
        detail: &str,
    ) -> EventRecord {
        let mut fields = vec![
            ("connection.id", format!("{:016x}", facts.id).into()),
            ("downstream.addr", facts.downstream.to_string().into()),
        ];
        if let Some(proxy) = facts.proxy {
            fields.push(("proxy.addr", proxy.to_string().into()));
        }
        if let Some(peer) = &facts.peer {
            fields.push(("peer.id", peer.name.clone()));
            fields.push(("peer.fingerprint", peer.fingerprint.clone()));
        }
        fields.extend([("reason", reason.into()), ("detail", detail.into())]);
        EventRecord {
            time_unix_ns,
            level: Level::Info,
            message: "client no longer admitted, connection ended",
            fields,
        }
    }

    fn of_revocation(time_unix_ns: u64, message: &'static str, event: RevocationEvent) -> EventRecord {
        let mut fields = vec![
            ("kind", event.kind.into()),
            ("value", event.value),
            ("reason", event.reason),
            ("by", event.by),
        ];
        if let Some(expires_unix) = event.expires_unix {
            fields.push(("expires", json::time_text(expires_unix).into()));
        }
        EventRecord { time_unix_ns, level: Level::Info, message, fields }
    }
}
