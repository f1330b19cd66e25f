//! Which client certificates are due to be renewed and were not: those that were seen and end the soonest.
//!
//! A client has to renew its certificate itself; what a gateway can do is to say so before the day on which the client is refused. Known are
//! clients that workers have verified since the process began, by bundle and name. A client that has come with a newer certificate is
//! no longer concerned; on other nodes it is, until it comes there, too.

use std::collections::{BTreeSet, HashMap};

use ringward_identity::{IdentityOptions, PeerIdentity};
use ringward_telemetry::ClientExpiry;
use ringward_tls::PeerPath;

/// The clients that were seen.
#[derive(Debug, Default)]
pub(super) struct Clients {
    by_name: HashMap<(Box<str>, Box<str>), Lifetime>,
    /// Whether one was added or taken out since they were reported.
    has_changed: bool,
    /// When they were reported, in seconds since 1970.
    reported_unix: i64,
}

/// The certificate of a client that ends last. Seconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Lifetime {
    not_before: i64,
    not_after: i64,
}

impl Clients {
    /// A client was verified by this path.
    pub(super) fn sighted(&mut self, path: &PeerPath, now: i64) {
        let chain: Vec<&[u8]> = path.certificates.iter().map(|certificate| &*certificate.der).collect();
        // The worker has read it already, so that it can be read.
        let Ok(peer) = PeerIdentity::from_verified_chain(&chain, &IdentityOptions::default()) else { return };
        let seen = Lifetime { not_before: peer.not_before_unix(), not_after: peer.not_after_unix() };
        let key = (path.bundle.as_ref().into(), shown(peer.name()).into());
        let known = self.by_name.get(&key).is_some_and(|known| known.not_after >= seen.not_after);
        // Short-lived certificates are renewed by programs all the time, and clients of which nobody hears again are the rule.
        let is_short = seen.not_after - seen.not_before < LIFETIME_MIN_SECONDS;
        if known || (is_short && !self.by_name.contains_key(&key)) {
            return;
        }
        self.has_changed = true;
        if is_short {
            self.by_name.remove(&key);
            return;
        }
        self.by_name.insert(key, seen);
        if self.by_name.len() > KNOWN_MAX {
            self.make_room(now);
        }
    }

    /// What is to be reported, if that is another than before or some time has passed.
    pub(super) fn report(&mut self, now: i64) -> Option<Vec<ClientExpiry>> {
        let since = (now - self.reported_unix).abs();
        if since == 0 || (!self.has_changed && since < REPORT_SECONDS) {
            return None;
        }
        self.has_changed = false;
        self.reported_unix = now;
        self.by_name.retain(|_, lifetime| lifetime.not_after > now);
        let mut due: Vec<_> = self.by_name.iter().filter(|(_, lifetime)| lifetime.is_due(now)).collect();
        due.sort_by_key(|(key, lifetime)| (lifetime.not_after, *key));
        due.truncate(SHOWN_MAX);
        let entry = |((bundle, client), lifetime): (&(Box<str>, Box<str>), &Lifetime)| ClientExpiry {
            bundle: bundle.to_string(),
            client: client.to_string(),
            not_after_unix: lifetime.not_after,
        };
        Some(due.into_iter().map(entry).collect())
    }

    /// Forgets the clients of other bundles than these: a partner that has gone has nothing to renew.
    pub(super) fn keep(&mut self, bundles: &BTreeSet<String>) {
        let before = self.by_name.len();
        self.by_name.retain(|(bundle, _), _| bundles.contains(&**bundle));
        self.has_changed |= self.by_name.len() != before;
    }

    /// How many clients are known.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Forgets the half that ends last: those that end soon are what all of this is for.
    fn make_room(&mut self, now: i64) {
        self.by_name.retain(|_, lifetime| lifetime.not_after > now);
        let mut ends: Vec<i64> = self.by_name.values().map(|lifetime| lifetime.not_after).collect();
        if ends.len() <= KNOWN_MAX / 2 {
            return;
        }
        let (_, last, _) = ends.select_nth_unstable(KNOWN_MAX / 2);
        let last = *last;
        self.by_name.retain(|_, lifetime| lifetime.not_after < last);
    }
}

impl Lifetime {
    /// Two thirds are over: when what renews certificates by itself usually does.
    fn is_due(&self, now: i64) -> bool {
        3 * (now - self.not_before) >= 2 * (self.not_after - self.not_before)
    }
}

/// A name that goes into a label. It was signed by a CA that is trusted, but chosen by its client.
fn shown(name: &str) -> String {
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    let plain = name[..end].chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let cut = if end < name.len() { "..." } else { "" };
    plain.chain(cut.chars()).collect()
}

/// Series that are exported: as many as somebody writes to in a week.
const SHOWN_MAX: usize = 20;
/// Clients that are kept, a few hundred bytes each. Who has more devices learns of those that end first.
const KNOWN_MAX: usize = 65_536;
/// Of certificates that live shorter a week or a day before their end says nothing.
const LIFETIME_MIN_SECONDS: i64 = 15 * 86_400;
/// Time alone makes certificates due, too.
const REPORT_SECONDS: i64 = 60;
/// A SPIFFE ID may have 2048, which would make a page of metrics of them.
const NAME_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use ringward_testkit::{Authority, Leaf};

    use super::*;
    use crate::trust::testing::path;

    const DAY: i64 = 86_400;

    fn seen(clients: &mut Clients, name: &str, (not_before, not_after): (i64, i64)) {
        clients.by_name.insert(("partners".into(), name.into()), Lifetime { not_before, not_after });
        clients.has_changed = true;
    }

    fn names(clients: &mut Clients, now: i64) -> Vec<String> {
        clients.report(now).unwrap().into_iter().map(|entry| entry.client).collect()
    }

    #[test]
    fn those_that_are_due_are_told_the_soonest_first() {
        let mut clients = Clients::default();
        seen(&mut clients, "in a month", (0, 90 * DAY));
        seen(&mut clients, "in a week", (0, 67 * DAY));
        seen(&mut clients, "in a year", (0, 400 * DAY));
        seen(&mut clients, "over", (0, 60 * DAY));
        assert_eq!(names(&mut clients, 60 * DAY), ["in a week", "in a month"]);
        assert_eq!(clients.report(60 * DAY + 1), None, "nothing new");
        assert_eq!(names(&mut clients, 60 * DAY + REPORT_SECONDS).len(), 2);
        assert_eq!(clients.len(), 3);
        clients.keep(&BTreeSet::from(["partners".to_owned()]));
        assert_eq!(clients.len(), 3);
        clients.keep(&BTreeSet::new());
        assert_eq!(names(&mut clients, 60 * DAY), Vec::<String>::new());
        for index in 0..2 * SHOWN_MAX {
            seen(&mut clients, &format!("{index}"), (0, 61 * DAY));
        }
        assert_eq!(names(&mut clients, 60 * DAY + 1).len(), SHOWN_MAX);
    }

    #[test]
    fn a_client_that_has_renewed_is_not_told_and_an_old_certificate_changes_nothing() {
        let root = Authority::root("Root");
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let at = |days: i64| SystemTime::UNIX_EPOCH + Duration::from_secs((now + days * DAY) as u64);
        let days = |from: i64, to: i64| {
            let leaf = Leaf::client("billing").valid_between(at(from), at(to));
            path("partners", &root.issue(&leaf), &root, &[])
        };
        let mut clients = Clients::default();
        clients.sighted(&days(-87, 3), now);
        let told = clients.report(now).unwrap();
        assert_eq!((told.len(), told[0].not_after_unix, &*told[0].bundle), (1, now + 3 * DAY, "partners"));
        assert!(told[0].client.contains("billing"), "{told:?}");
        clients.sighted(&days(-1, 89), now);
        assert_eq!(clients.report(now + 1), Some(Vec::new()));
        clients.sighted(&days(-87, 3), now);
        assert_eq!(clients.report(now + 2), None);
        // From then on it has those that are renewed all the time.
        clients.sighted(&days(85, 95), now);
        assert_eq!((clients.report(now + 3), clients.len()), (Some(Vec::new()), 0));
        clients.sighted(&days(-1, 1), now);
        assert_eq!(clients.len(), 0);
    }

    #[test]
    fn they_are_bounded_in_number_and_length() {
        let mut clients = Clients::default();
        for index in 0..KNOWN_MAX as i64 + 1 {
            seen(&mut clients, &format!("{index}"), (0, 100 * DAY + index));
        }
        clients.make_room(0);
        assert!(clients.len() <= KNOWN_MAX / 2, "{}", clients.len());
        assert!(clients.by_name.contains_key(&("partners".into(), "0".into())), "the first to end stays");
        // All of them end at the same moment.
        let mut clients = Clients::default();
        for index in 0..KNOWN_MAX + 1 {
            seen(&mut clients, &format!("{index}"), (0, 100 * DAY));
        }
        clients.make_room(0);
        assert!(clients.len() <= KNOWN_MAX / 2, "{}", clients.len());
        assert_eq!(shown("a\nb"), "a\u{fffd}b");
        assert_eq!(shown(&"é".repeat(100)), format!("{}...", "é".repeat(64)));
    }
}
