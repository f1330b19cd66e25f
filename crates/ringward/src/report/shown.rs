//! The report as text.

use std::fmt;

use super::Weekly;
use super::tally::{Tally, TenantCounts};
use crate::table::{Table, moment, printable, span};

impl fmt::Display for Weekly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "report of {} from {} to {}",
            self.config,
            moment(self.since_unix),
            moment(self.until_unix)
        )?;
        self.sources(f)?;
        self.expiries(f)?;
        self.lists(f)?;
        match &self.tally {
            None => writeln!(f, "\nrequests, handshakes, changes: no data, as there is no log")?,
            Some(tally) => {
                changes(f, tally)?;
                self.incidents(f)?;
                tenants(f, tally)?;
                handshakes(f, tally)?;
            }
        }
        Ok(())
    }
}

impl Weekly {
    fn sources(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.node, &self.node_problem) {
            (Some(node), _) => writeln!(
                f,
                "process   version {}, generation {}, {} connections, {} entries on the deny list",
                node.version,
                node.generation,
                node.connections.map_or_else(|| "?".to_owned(), |count| count.to_string()),
                node.deny_entries
            )?,
            (None, Some(problem)) => writeln!(f, "process   NOT ASKED: {problem}")?,
            (None, None) => writeln!(f, "process   none runs, or it has no `socket` in [admin]")?,
        }
        for log in &self.logs {
            write!(f, "log       {}: {} lines", printable(&log.file), log.lines)?;
            for (count, what) in [(log.outside, "of other times"), (log.unreadable, "unreadable")] {
                if count > 0 {
                    write!(f, ", {count} {what}")?;
                }
            }
            match &log.problem {
                Some(problem) => writeln!(f, "; NOT READ TO ITS END: {problem}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }

    fn expiries(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nends within 30 days, or has ended")?;
        if self.expiries.is_empty() {
            return writeln!(f, "  nothing");
        }
        let mut table = Table::new(&["WHAT", "WHOSE", "ENDS", "IN"]);
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        for expiry in &self.expiries {
            let (ends, left) = (moment(expiry.not_after_unix), span(expiry.not_after_unix - now));
            table.row([expiry.kind.as_str().to_owned(), expiry.name.clone(), ends, left]);
        }
        write!(f, "{table}")
    }

    fn lists(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(node) = &self.node else { return Ok(()) };
        writeln!(f, "\nrevocation lists")?;
        if node.lists.is_empty() {
            return writeln!(f, "  none is configured");
        }
        let mut table = Table::new(&["ISSUER", "NUMBER", "ENTRIES", "NEXT UPDATE", "PROBLEM"]);
        let known = |unix: Option<i64>| unix.map_or_else(|| "-".to_owned(), moment);
        for list in &node.lists {
            let issuer = if list.issuer.is_empty() { list.source.clone() } else { list.issuer.clone() };
            let number = list.number.clone().unwrap_or_else(|| "-".to_owned());
            let problem = list.problem.clone().unwrap_or_default();
            table.row([issuer, number, list.entries.to_string(), known(list.next_update_unix), problem]);
        }
        write!(f, "{table}")
    }

    fn incidents(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nincidents")?;
        if self.incidents.is_empty() {
            return writeln!(f, "  none in these logs");
        }
        let mut table = Table::new(&["WHAT", "OF", "BEGAN", "LASTED"]);
        for incident in &self.incidents {
            let lasted = incident.ended_unix.map(|ended| span(ended - incident.began_unix));
            table.row([
                incident.class.to_owned(),
                incident.of.clone(),
                moment(incident.began_unix),
                lasted.unwrap_or_else(|| "no end in these logs".to_owned()),
            ]);
        }
        write!(f, "{table}")
    }
}

fn changes(f: &mut fmt::Formatter<'_>, tally: &Tally) -> fmt::Result {
    writeln!(f, "\nchanges of trust and configuration")?;
    if tally.changes.is_empty() {
        return writeln!(f, "  none in these logs");
    }
    for change in &tally.changes {
        writeln!(f, "  {}  {}", change.at, printable(&change.what))?;
    }
    if tally.changes_unlisted > 0 {
        writeln!(f, "  and {} more", tally.changes_unlisted)?;
    }
    for failure in &tally.fetch_failures {
        writeln!(f, "  failures of {}: {} logged", printable(&failure.source), failure.failures)?;
    }
    Ok(())
}

fn tenants(f: &mut fmt::Formatter<'_>, tally: &Tally) -> fmt::Result {
    writeln!(f, "\nrequests by tenant")?;
    if tally.tenants.is_empty() {
        return writeln!(f, "  none in these logs");
    }
    let mut table = Table::new(&["TENANT", "REQUESTS", "DENIED", "NO DECISION"]);
    for row in &tally.tenants {
        let TenantCounts { requests, denied, undecided } = row.counts;
        table.row([named(&row.tenant), requests.to_string(), denied.to_string(), undecided.to_string()]);
    }
    write!(f, "{table}")?;
    if !tally.denials.is_empty() {
        writeln!(f, "\ndenials")?;
        let mut table = Table::new(&["TENANT", "POLICY", "RULE", "ROUTE", "REQUESTS"]);
        for row in &tally.denials {
            let key = &row.key;
            let cells = [named(&key.tenant), key.policy.clone(), named(&key.rule), key.route.clone()];
            let [tenant, policy, rule, route] = cells;
            table.row([tenant, policy, rule, route, row.requests.to_string()]);
        }
        write!(f, "{table}")?;
    }
    if tally.denials_unlisted > 0 {
        writeln!(f, "  and {} more", tally.denials_unlisted)?;
    }
    Ok(())
}

fn handshakes(f: &mut fmt::Formatter<'_>, tally: &Tally) -> fmt::Result {
    writeln!(f, "\nrefused handshakes")?;
    if tally.handshakes_failed.is_empty() {
        writeln!(f, "  none in these logs")?;
    } else {
        let mut table = Table::new(&["REASON", "HANDSHAKES", "LAST PRESENTED (NOT VERIFIED)"]);
        for row in &tally.handshakes_failed {
            let subject = row.counts.last_subject.clone().unwrap_or_default();
            table.row([row.reason.clone(), row.counts.handshakes.to_string(), subject]);
        }
        write!(f, "{table}")?;
    }
    if tally.handshakes_failed_unlogged > 0 {
        writeln!(f, "  and {} that were not logged one by one", tally.handshakes_failed_unlogged)?;
    }
    Ok(())
}

fn named(name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { name.to_owned() }
}
