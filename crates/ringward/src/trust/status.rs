//! `trust status`: everything that decides whom this process trusts, for people, scripts and comparison.
//!
//! What `--json` prints is also what `trust diff` reads of another node. It holds no secret: of ticket keys their names and
//! times, of certificates what everybody may know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::table::{Table, moment, span};

/// Of one process at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrustStatus {
    /// Layout of this document. An older `trust diff` refuses a newer layout.
    pub(crate) layout: u32,
    /// Version of the program.
    pub(crate) ringward: String,
    /// When this was written, seconds since 1970.
    pub(crate) now_unix: i64,
    /// Snapshot in force.
    pub(crate) generation: u64,
    /// Trust bundles, by name.
    pub(crate) bundles: Vec<BundleStatus>,
    /// Revocation lists, also those that are missing.
    pub(crate) crls: Vec<CrlStatus>,
    /// OCSP answers about clients, if any host asks for them.
    pub(crate) ocsp: Option<OcspStatus>,
    /// Entries of the deny list.
    pub(crate) deny_entries: usize,
    /// SHA-256 of the deny list, to compare nodes by.
    pub(crate) deny_digest: String,
    /// Staples of our own certificates.
    pub(crate) staples: Vec<StapleStatus>,
    /// Keys that seal session tickets.
    pub(crate) keys: KeysStatus,
    /// Tenants, by name.
    pub(crate) tenants: Vec<TenantStatus>,
    /// Open connections; absent if the workers did not say in time.
    pub(crate) connections: Option<usize>,
}

/// A trust bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BundleStatus {
    /// Its name.
    pub(crate) name: String,
    /// SHA-256 over its CAs.
    pub(crate) digest: String,
    /// The SPIFFE trust domain that it is bound to.
    pub(crate) spiffe_trust_domain: Option<String>,
    /// CAs that may vouch for clients.
    pub(crate) cas: Vec<CaStatus>,
    /// Certificates that were left out, and why.
    pub(crate) quarantined: Vec<String>,
    /// Open connections whose clients it vouches for.
    pub(crate) connections: Option<usize>,
}

/// A CA that may vouch for clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CaStatus {
    /// Subject by RFC 4514.
    pub(crate) subject: String,
    /// SHA-256 of its DER, hexadecimal.
    pub(crate) fingerprint_sha256: String,
    /// Seconds since 1970.
    pub(crate) not_before_unix: i64,
    /// Seconds since 1970.
    pub(crate) not_after_unix: i64,
    /// Where it was read.
    pub(crate) file: String,
}

/// A revocation list, or one that should be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CrlStatus {
    /// Bundles whose clients it concerns.
    pub(crate) bundles: Vec<String>,
    /// Subject of the CA that signed it, by RFC 4514; empty if no list was read yet.
    pub(crate) issuer: String,
    /// File or URL.
    pub(crate) source: String,
    /// cRLNumber, decimal as in messages, if it has one.
    pub(crate) number: Option<String>,
    /// When it was made, seconds since 1970.
    pub(crate) this_update_unix: Option<i64>,
    /// When the next one is due, seconds since 1970. After it `stale` decides.
    pub(crate) next_update_unix: Option<i64>,
    /// Certificates on it.
    pub(crate) entries: usize,
    /// When it was last read or fetched, or confirmed by its source, seconds since 1970.
    pub(crate) checked_unix: Option<i64>,
    /// When it is fetched again, seconds since 1970; none for files, which are watched.
    pub(crate) next_fetch_unix: Option<i64>,
    /// Why the last attempt failed, if it did.
    pub(crate) problem: Option<String>,
}

/// The table of OCSP answers about clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OcspStatus {
    /// Certificates that a responder calls good.
    pub(crate) good: usize,
    /// Certificates that a responder calls revoked.
    pub(crate) revoked: usize,
    /// Certificates that no responder would speak for.
    pub(crate) unknown: usize,
    /// Queries that led to no valid answer.
    pub(crate) failed: usize,
    /// Queries under way.
    pub(crate) pending: usize,
}

/// A staple of one of our certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StapleStatus {
    /// First name of the virtual host.
    pub(crate) host: String,
    /// SHA-256 of the certificate's DER, hexadecimal.
    pub(crate) certificate_sha256: String,
    /// `good`, `revoked`, `none`.
    pub(crate) status: String,
    /// File or URL.
    pub(crate) source: String,
    /// Whether clients insist on one (RFC 7633).
    pub(crate) required: bool,
    /// When it was made, seconds since 1970.
    pub(crate) this_update_unix: Option<i64>,
    /// Until when it may be shown, seconds since 1970.
    pub(crate) next_update_unix: Option<i64>,
    /// Why the last attempt failed, if it did.
    pub(crate) problem: Option<String>,
}

/// The keys that seal session tickets, without their secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeysStatus {
    /// The ring file; absent if the keys are this process's own.
    pub(crate) file: Option<String>,
    /// In the order of the ring.
    pub(crate) keys: Vec<KeyStatus>,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyStatus {
    /// Its name, hexadecimal.
    pub(crate) id: String,
    /// From when on it seals, seconds since 1970.
    pub(crate) not_before_unix: i64,
    /// Until when it opens, seconds since 1970.
    pub(crate) not_after_unix: i64,
    /// `next`, `current`, `previous` or `expired`.
    pub(crate) role: String,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TenantStatus {
    /// Its name.
    pub(crate) name: String,
    /// Until when its revocation checks are suspended, seconds since 1970, if they are.
    pub(crate) revocation_suspended_until_unix: Option<i64>,
    /// Open connections of its clients.
    pub(crate) connections: Option<usize>,
}

/// What [`TrustStatus::layout`] is.
pub(crate) const LAYOUT: u32 = 1;

impl TrustStatus {
    /// What another one has that this one has not, and the other way round. Counts of connections and times of fetching are
    /// left out: they differ between any two moments.
    pub(crate) fn differences(&self, other: &TrustStatus) -> Vec<Difference> {
        let (ours, theirs) = (self.facts(), other.facts());
        let mut names: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
        names.sort();
        names.dedup();
        let difference = |name: &String| {
            let (here, there) = (ours.get(name).cloned(), theirs.get(name).cloned());
            (here != there).then(|| Difference { what: name.clone(), here, there })
        };
        names.into_iter().filter_map(difference).collect()
    }

    /// Everything that should be equal on equal nodes: what it is, and its value.
    fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        for bundle in &self.bundles {
            let of = format!("bundle {}", bundle.name);
            facts.insert(
                of.clone(),
                bundle.spiffe_trust_domain.clone().unwrap_or_else(|| "any trust domain".to_owned()),
            );
            for ca in &bundle.cas {
                let text = format!("{} until {}", ca.subject, moment(ca.not_after_unix));
                facts.insert(format!("{of}, CA {}", ca.fingerprint_sha256), text);
            }
            for left_out in &bundle.quarantined {
                facts.insert(format!("{of}, left out: {left_out}"), "left out".to_owned());
            }
        }
        // An issuer may have several, each about a part of its certificates; two bundles may have the same one.
        let mut lists: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for crl in self.crls.iter().filter(|crl| !crl.issuer.is_empty()) {
            let number = crl.number.as_deref().unwrap_or("without number");
            let made = crl.this_update_unix.map_or_else(|| "unknown".to_owned(), moment);
            let text = format!("number {number} of {made}, {} entries", crl.entries);
            lists.entry(&crl.issuer).or_default().insert(text);
        }
        for (issuer, texts) in lists {
            let text = texts.into_iter().collect::<Vec<_>>().join("; ");
            facts.insert(format!("revocation list of {issuer}"), text);
        }
        facts.insert("deny list".to_owned(), format!("{} entries, {}", self.deny_entries, self.deny_digest));
        // Keys of a process's own are never those of another one.
        for key in self.keys.keys.iter().filter(|_| self.keys.file.is_some()) {
            let text = format!("from {} to {}", moment(key.not_before_unix), moment(key.not_after_unix));
            facts.insert(format!("ticket key {}", key.id), text);
        }
        for tenant in &self.tenants {
            let text = match tenant.revocation_suspended_until_unix {
                Some(until) => format!("revocation suspended until {}", moment(until)),
                None => "revocation checked".to_owned(),
            };
            facts.insert(format!("tenant {}", tenant.name), text);
        }
        facts
    }
}

/// Something that is not the same in two places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Difference {
    /// What.
    pub(crate) what: String,
    /// How it is in the process that was asked; absent if it has no such thing.
    pub(crate) here: Option<String>,
    /// How it is in what it was compared with.
    pub(crate) there: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.here, &self.there) {
            (Some(here), None) => write!(f, "- {}: {here}", self.what),
            (None, Some(there)) => write!(f, "+ {}: {there}", self.what),
            (here, there) => {
                let text = |side: &Option<String>| side.clone().unwrap_or_default();
                write!(f, "~ {}: {} → {}", self.what, text(here), text(there))
            }
        }
    }
}

impl fmt::Display for TrustStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.now_unix;
        writeln!(f, "generation {}, {}", self.generation, moment(now))?;
        let count = |connections: Option<usize>| {
            connections.map_or_else(|| "?".to_owned(), |count| count.to_string())
        };
        writeln!(f, "open connections: {}", count(self.connections))?;
        for bundle in &self.bundles {
            let domain = bundle
                .spiffe_trust_domain
                .as_ref()
                .map_or_else(String::new, |name| format!(" (spiffe://{name})"));
            writeln!(f, "\nbundle {}{domain}: {} connections", bundle.name, count(bundle.connections))?;
            let mut table = Table::new(&["CA", "expires", "in", "SHA-256"]);
            for ca in &bundle.cas {
                let left = span(ca.not_after_unix - now);
                table.row([
                    ca.subject.clone(),
                    moment(ca.not_after_unix),
                    left,
                    ca.fingerprint_sha256.clone(),
                ]);
            }
            write!(f, "{table}")?;
            for left_out in &bundle.quarantined {
                writeln!(f, "  left out: {left_out}")?;
            }
        }
        self.write_crls(f)?;
        if let Some(OcspStatus { good, revoked, unknown, failed, pending }) = &self.ocsp {
            writeln!(
                f,
                "\nOCSP answers: {good} good, {revoked} revoked, {unknown} unknown, {failed} failed, {pending} pending"
            )?;
        }
        writeln!(f, "\ndeny list: {} entries", self.deny_entries)?;
        self.write_staples(f)?;
        write!(f, "\n{}", self.keys)?;
        for tenant in &self.tenants {
            let suspended = tenant
                .revocation_suspended_until_unix
                .map_or_else(String::new, |until| format!(", REVOCATION SUSPENDED until {}", moment(until)));
            writeln!(f, "tenant {}: {} connections{suspended}", tenant.name, count(tenant.connections))?;
        }
        Ok(())
    }
}

impl TrustStatus {
    fn write_crls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.crls.is_empty() {
            return writeln!(f, "\nno revocation lists");
        }
        writeln!(f, "\nrevocation lists")?;
        let mut table =
            Table::new(&["issuer", "number", "entries", "made", "next due", "in", "checked", "source"]);
        for crl in &self.crls {
            let when = |unix: Option<i64>| unix.map_or_else(|| "-".to_owned(), moment);
            let left = crl.next_update_unix.map_or_else(|| "-".to_owned(), |next| span(next - self.now_unix));
            table.row([
                if crl.issuer.is_empty() { "none read yet".to_owned() } else { crl.issuer.clone() },
                crl.number.clone().unwrap_or_else(|| "-".to_owned()),
                crl.entries.to_string(),
                when(crl.this_update_unix),
                when(crl.next_update_unix),
                left,
                when(crl.checked_unix),
                crl.source.clone(),
            ]);
        }
        write!(f, "{table}")?;
        for crl in &self.crls {
            if let Some(problem) = &crl.problem {
                writeln!(f, "  {}: {problem}", crl.source)?;
            }
        }
        Ok(())
    }

    fn write_staples(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for staple in &self.staples {
            let StapleStatus { host, status, source, required, next_update_unix, problem, .. } = staple;
            let until =
                next_update_unix.map_or_else(String::new, |until| format!(" until {}", moment(until)));
            let required = if *required { ", required by the certificate" } else { "" };
            let problem = problem.as_ref().map_or_else(String::new, |problem| format!("; {problem}"));
            writeln!(f, "staple of {host}: {status}{until} from {source}{required}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for KeysStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => writeln!(f, "ticket keys of {file}")?,
            None => writeln!(f, "ticket keys of this process alone")?,
        }
        let mut table = Table::new(&["key", "role", "seals from", "opens until"]);
        for KeyStatus { id, not_before_unix, not_after_unix, role } in &self.keys {
            table.row([id.clone(), role.clone(), moment(*not_before_unix), moment(*not_after_unix)]);
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> TrustStatus {
        let ca = |digit: char| CaStatus {
            subject: format!("CN=Root {digit}"),
            fingerprint_sha256: digit.to_string().repeat(64),
            not_before_unix: 0,
            not_after_unix: 2_000_000_000,
            file: "ca.pem".to_owned(),
        };
        let bundle = BundleStatus {
            name: "partners".to_owned(),
            digest: "00".to_owned(),
            spiffe_trust_domain: None,
            cas: vec![ca('a'), ca('b')],
            quarantined: vec!["old.pem: expired".to_owned()],
            connections: Some(3),
        };
        let crl = CrlStatus {
            bundles: vec!["partners".to_owned()],
            issuer: "CN=Root a".to_owned(),
            source: "a.crl".to_owned(),
            number: Some("10".to_owned()),
            this_update_unix: Some(1_000_000_000),
            next_update_unix: Some(1_000_086_400),
            entries: 2,
            checked_unix: None,
            next_fetch_unix: None,
            problem: None,
        };
        let key = KeyStatus {
            id: "k1".to_owned(),
            not_before_unix: 0,
            not_after_unix: 10,
            role: "current".to_owned(),
        };
        TrustStatus {
            layout: LAYOUT,
            ringward: "0".to_owned(),
            now_unix: 1_000_000_000,
            generation: 7,
            bundles: vec![bundle],
            crls: vec![crl],
            ocsp: None,
            deny_entries: 0,
            deny_digest: "00".to_owned(),
            staples: Vec::new(),
            keys: KeysStatus { file: None, keys: vec![key] },
            tenants: vec![TenantStatus {
                name: "acme".to_owned(),
                revocation_suspended_until_unix: None,
                connections: None,
            }],
            connections: Some(4),
        }
    }

    #[test]
    fn what_changes_by_itself_is_no_difference() {
        let (here, mut there) = (status(), status());
        there.generation = 9;
        there.now_unix += 5;
        there.connections = None;
        there.bundles[0].connections = Some(0);
        there.crls[0].source = "https://crl.example.com/a.crl".to_owned();
        there.keys.keys[0].id = "k2".to_owned();
        assert_eq!(here.differences(&there), []);
        assert_eq!(
            serde_json::from_str::<TrustStatus>(&serde_json::to_string(&here).unwrap()).unwrap(),
            here
        );
    }

    #[test]
    fn every_fact_of_trust_is_compared() {
        type Change = fn(&mut TrustStatus);
        let changes: [(&str, Change); 9] = [
            ("- bundle partners, CA aaaa", |s| drop(s.bundles[0].cas.remove(0))),
            ("+ bundle partners, CA 1111", |s| {
                let mut ca = s.bundles[0].cas[0].clone();
                ca.fingerprint_sha256 = "1".repeat(64);
                s.bundles[0].cas.push(ca);
            }),
            ("- bundle partners, left out", |s| s.bundles[0].quarantined.clear()),
            ("~ bundle partners: any", |s| s.bundles[0].spiffe_trust_domain = Some("example.com".to_owned())),
            ("~ revocation list of CN=Root a: number 10", |s| s.crls[0].number = Some("11".to_owned())),
            ("- revocation list of CN=Root a", |s| s.crls.clear()),
            ("~ deny list: 0 entries", |s| s.deny_digest = "01".to_owned()),
            ("~ tenant acme: revocation checked → revocation suspended", |s| {
                s.tenants[0].revocation_suspended_until_unix = Some(5);
            }),
            ("+ ticket key k1", |s| s.keys.file = Some("ring".to_owned())),
        ];
        for (expected, change) in changes {
            let mut there = status();
            change(&mut there);
            let found: Vec<String> = status().differences(&there).iter().map(ToString::to_string).collect();
            assert!(matches!(&found[..], [one] if one.starts_with(expected)), "{expected}: {found:?}");
        }
    }

    #[test]
    fn people_see_the_same_facts() {
        let text = status().to_string();
        for part in [
            "bundle partners: 3 connections",
            "CN=Root b",
            "left out: old.pem",
            "a.crl",
            "current",
            "tenant acme",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
