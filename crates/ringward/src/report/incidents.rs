//! What began and ended: an event that says that something is wrong, and the one that says that it is well again.

use std::collections::BTreeMap;

use serde::Serialize;

use super::lines::Line;

/// Something that was wrong for a while.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Incident {
    /// Which kind.
    pub(super) class: &'static str,
    /// Of what: a URL, a bundle, a host; empty if there is only one.
    pub(super) of: String,
    /// Seconds since 1970.
    pub(super) began_unix: i64,
    /// Absent while it lasts, as far as the logs go.
    pub(super) ended_unix: Option<i64>,
}

/// Those of the logs that were read.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    open: BTreeMap<(&'static str, String), i64>,
    over: Vec<Incident>,
}

impl Incidents {
    /// Looks at an event.
    pub(super) fn event(&mut self, line: &Line<'_>, at: i64) {
        let of =
            || line.url.as_deref().or(line.trust.as_deref()).or(line.host.as_deref()).unwrap_or_default();
        match &*line.msg {
            "new configuration refused, the running one stays" => self.begins("reload refused", "", at),
            "new configuration in force" | "the configuration is again what runs" => {
                self.ends("reload refused", "", at);
            }
            "revocation list not fetched, the one in use stays" => {
                self.begins("revocation list not fetched", of(), at)
            }
            "revocation list is stale: its CA, or its server, has not provided the next one in time" => {
                self.begins("revocation list stale", of(), at);
            }
            "revocation list fetched" | "revocation list can be fetched again" => {
                self.ends("revocation list not fetched", of(), at);
                if &*line.msg == "revocation list fetched" {
                    self.ends("revocation list stale", of(), at);
                }
            }
            "no OCSP answer about a client; further failures of this kind are only counted" => {
                self.begins("OCSP responder", of(), at);
            }
            "no new staple, the last one is shown until it is too old" => {
                self.begins("staple not renewed", of(), at)
            }
            "OCSP responder answers again" if line.host.is_some() => {
                self.ends("staple not renewed", of(), at)
            }
            "OCSP responder answers again" => self.ends("OCSP responder", of(), at),
            "staple renewed" => self.ends("staple not renewed", of(), at),
            "worker died, its connections are lost" => self.begins("worker died", "", at),
            "worker started again" => self.ends("worker died", "", at),
            _ => {}
        }
    }

    /// All of them, in the order in which they began.
    pub(super) fn finish(self) -> Vec<Incident> {
        let open = self.open.into_iter();
        let open = open.map(|((class, of), began_unix)| Incident { class, of, began_unix, ended_unix: None });
        let mut all: Vec<Incident> = self.over.into_iter().chain(open).collect();
        all.sort_by(|one, other| (one.began_unix, one.class).cmp(&(other.began_unix, other.class)));
        all
    }

    /// One that lasts already begins no second time.
    fn begins(&mut self, class: &'static str, of: &str, at: i64) {
        if self.open.len() < INCIDENTS_MAX {
            self.open.entry((class, of.to_owned())).or_insert(at);
        }
    }

    fn ends(&mut self, class: &'static str, of: &str, at: i64) {
        let Some(began_unix) = self.open.remove(&(class, of.to_owned())) else { return };
        if self.over.len() < INCIDENTS_MAX {
            self.over.push(Incident { class, of: of.to_owned(), began_unix, ended_unix: Some(at) });
        }
    }
}

/// More than anybody reads.
const INCIDENTS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_has_a_begin_and_an_end_of_its_own() {
        let mut incidents = Incidents::default();
        let mut event = |text: &str, at: i64| incidents.event(&serde_json::from_str(text).unwrap(), at);
        let refused = r#"{"message":"new configuration refused, the running one stays"}"#;
        event(r#"{"message":"new configuration in force"}"#, 1);
        event(refused, 2);
        event(refused, 3);
        event(r#"{"message":"revocation list not fetched, the one in use stays","url":"http://a/"}"#, 4);
        event(r#"{"message":"revocation list not fetched, the one in use stays","url":"http://b/"}"#, 5);
        event(r#"{"message":"the configuration is again what runs"}"#, 6);
        event(r#"{"message":"revocation list can be fetched again","url":"http://b/"}"#, 9);
        let all: Vec<_> = incidents
            .finish()
            .into_iter()
            .map(|incident| (incident.class, incident.of, incident.began_unix, incident.ended_unix))
            .collect();
        assert_eq!(
            all,
            [
                ("reload refused", String::new(), 2, Some(6)),
                ("revocation list not fetched", "http://a/".to_owned(), 4, None),
                ("revocation list not fetched", "http://b/".to_owned(), 5, Some(9)),
            ]
        );
    }
}
