//! What is tried, and what has to come of it.

mod identities;
mod listed;
mod place;

use ringward_config::ForwardMode;
use ringward_identity::headers;

use self::place::Place;
use super::ask::{Answer, Ask};
use super::rehearsal::Rehearsal;
use super::report::{Outcome, Trial};
use super::upstreams::Seen;
use crate::failure::Failure;

/// Tries everything, with upstreams that also trust what stands in fields of these names.
///
/// # Errors
/// If something cannot be tried for a reason that is not the configuration's.
pub(super) async fn run(rehearsal: &Rehearsal, trusted: &[String]) -> Result<Vec<Trial>, Failure> {
    let mut stage = Stage { rehearsal, trusted, trials: Vec::new() };
    stage.play().await.map_err(Failure::Runtime)?;
    Ok(stage.trials)
}

/// Where it is tried, and what has come of it so far.
struct Stage<'r> {
    rehearsal: &'r Rehearsal,
    trusted: &'r [String],
    trials: Vec<Trial>,
}

/// What a client says of itself, in head and trailers alike.
struct Claim {
    contract: &'static str,
    names: Vec<String>,
    /// It is about who the client is, and has to be counted.
    is_counted: bool,
}

/// What came of a trial, and what was seen.
type Verdict = (Outcome, String);

impl<'r> Stage<'r> {
    async fn play(&mut self) -> Result<(), String> {
        let rehearsal = self.rehearsal;
        for (number, listener) in rehearsal.config.listeners.iter().enumerate() {
            let mut is_first_of_listener = true;
            for (index, host) in listener.hosts.iter().enumerate() {
                let identity = place::ordinary_client(&rehearsal.papers, host)?;
                let (places, unreached) =
                    Place::all(rehearsal, (number, listener), (index, host), identity.as_ref());
                for (route, why) in unreached {
                    self.add(&(&*listener.name, host, route), None, CLAIMS, (Outcome::Untried, why));
                }
                let mut is_first_of_host = true;
                for place in &places {
                    for http2 in place.protocols() {
                        self.of_route(place, http2).await?;
                    }
                    if host.forwarded_identity.is_some()
                        && place.route.client_auth.identifies()
                        && is_first_of_host
                    {
                        is_first_of_host = false;
                        self.of_forwarders(place).await?;
                    }
                    if is_first_of_listener {
                        is_first_of_listener = false;
                        self.of_addresses(place).await?;
                        self.of_proxy_protocol(place).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What a client says of itself goes no further than here.
    async fn of_route(&mut self, place: &Place<'_>, http2: bool) -> Result<(), String> {
        let edits = &place.route.request_headers;
        let set = edits.set.iter().map(|(name, _)| name).chain(&edits.remove).flat_map(|name| spelled(name));
        let trusted = self.trusted.iter().flat_map(|name| spelled(name));
        let identity = headers::IDENTITY_HEADERS.iter().chain(headers::FOREIGN_IDENTITY_PREFIXES);
        let identity = identity.flat_map(|name| spelled(name).into_iter().chain([name.replace('-', ".")]));
        let addresses = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].into_iter();
        let addresses = addresses.flat_map(spelled).chain([spelled("forwarded")[0].clone()]);
        for claim in [
            Claim { contract: CLAIMS, names: identity.collect(), is_counted: true },
            Claim { contract: ADDRESSES, names: addresses.collect(), is_counted: false },
            Claim {
                contract: "fields that the configuration sets are its own",
                names: set.collect(),
                is_counted: false,
            },
            Claim {
                contract: "fields that upstreams trust are no client's",
                names: trusted.collect(),
                is_counted: false,
            },
        ] {
            // The route asks for some of them.
            let asked = &place.route.conditions.headers;
            let names =
                claim.names.into_iter().filter(|name| !asked.contains_key(&*name.to_ascii_lowercase()));
            let claim = Claim { names: names.collect(), ..claim };
            if !claim.names.is_empty() {
                let verdict = self.claim(place, http2, &claim).await?;
                self.add(&place.names(), Some(http2), claim.contract, verdict);
            }
        }
        Ok(())
    }

    /// Makes a claim, in as many requests as it takes.
    async fn claim(&self, place: &Place<'_>, http2: bool, claim: &Claim) -> Result<Verdict, String> {
        let (mut said, mut refused, mut leaks) = (0, false, Vec::new());
        let before = self.rehearsal.count(STRIPPED, &[]);
        for names in claim.names.chunks(NAMES_MAX) {
            let fields = || names.iter().map(|name| (name.clone(), MARK.to_owned()));
            let mut ask = place.ask(http2);
            ask.fields.extend(fields());
            ask.trailers.extend(fields());
            let (answer, seen) = self.send(&ask).await?;
            let refuses = place.host.forwarded_identity.as_ref().is_some_and(|rules| rules.refuses_others);
            match answer {
                Answer::Status(400) if refuses && claim.is_counted && seen.is_empty() => refused = true,
                _ if seen.is_empty() => return Ok(nothing_arrived(&answer)),
                _ => said += 2 * names.len() as u64,
            }
            leaks.extend(seen.iter().flat_map(|seen| self.leaks(place, seen)));
        }
        if !leaks.is_empty() {
            leaks.sort();
            leaks.dedup();
            let what = format!("reaches the upstream as the client wrote it: {}", leaks.join(", "));
            let help = match claim.contract {
                // Nothing that could be configured lets them through.
                CLAIMS | ADDRESSES => "that is a fault of ringward's: please report it",
                _ => "remove or set it in `request_headers` of the host or route",
            };
            return Ok((Outcome::Broken, format!("{what}; {help}")));
        }
        if refused {
            return Ok((Outcome::Kept, "the request gets 400".to_owned()));
        }
        if !claim.is_counted {
            return Ok((Outcome::Kept, format!("{said} fields said it in vain")));
        }
        let counted = self.rehearsal.counted(STRIPPED, &[], before + said).await - before;
        if counted != said {
            let detail = format!("{said} fields were removed, and {counted} counted in {STRIPPED}");
            return Ok((Outcome::Broken, detail));
        }
        Ok((Outcome::Kept, format!("{said} fields were removed and counted")))
    }

    /// Names of fields in which something of the client's has arrived that must not.
    fn leaks(&self, place: &Place<'_>, seen: &Seen) -> Vec<String> {
        // Without lists of addresses that are believed of some, everybody's is continued where that is configured.
        let continues = |mode| mode == ForwardMode::Append && place.at.client_address.is_none();
        let forward = &place.host.forward;
        let marked = seen.fields.iter().filter(|(_, value)| value.contains(MARK));
        let is_leak = |(name, value): &&(String, String)| {
            let last = value.rsplit(',').next().unwrap_or_default();
            match name.as_str() {
                "x-forwarded-for" if continues(forward.x_forwarded) => last.contains(MARK),
                "x-forwarded-host" | "x-forwarded-proto" if continues(forward.x_forwarded) => false,
                "forwarded" if continues(forward.forwarded) => last.contains(MARK),
                _ => true,
            }
        };
        marked.filter(is_leak).map(|(name, _)| name.clone()).collect()
    }

    /// Sends a request; what the client and what the upstreams got.
    async fn send(&self, ask: &Ask<'_>) -> Result<(Answer, Vec<Seen>), String> {
        self.rehearsal.upstreams.take();
        let answer = ask.send(&self.rehearsal.papers).await?;
        Ok((answer, self.rehearsal.upstreams.take()))
    }

    /// Kept, if one more is counted than `before`.
    async fn counted(&self, (metric, labels): (&str, &[(&str, &str)]), before: u64, said: &str) -> Verdict {
        let more = self.rehearsal.counted(metric, labels, before + 1).await - before;
        let word = labels.last().map_or("", |(_, word)| word);
        match more {
            1 => (Outcome::Kept, format!("{said}; counted as {word}")),
            more => (Outcome::Broken, format!("{said}, but {more} and not 1 counted as {word} in {metric}")),
        }
    }

    fn add(
        &mut self,
        (listener, host, route): &place::Names<'_>,
        http2: Option<bool>,
        contract: &'static str,
        (outcome, detail): Verdict,
    ) {
        self.trials.push(Trial {
            listener: (*listener).to_owned(),
            host: Some(host.names[0].to_string()),
            route: Some(route.id.clone()),
            protocol: http2.map(|http2| if http2 { "h2" } else { "http/1.1" }),
            contract,
            outcome,
            detail,
        });
    }
}

/// A trial that came to nothing.
fn nothing_arrived(answer: &Answer) -> Verdict {
    let detail = match answer {
        Answer::Status(status) => format!("the client got {status}, and nothing arrived"),
        Answer::Refused(why) => format!("there was no connection: {why}"),
    };
    (Outcome::Untried, detail)
}

/// A trial that has not ended as it has to.
fn broken(answer: &Answer) -> Verdict {
    let detail = match answer {
        Answer::Status(status) => format!("the client got {status}"),
        Answer::Refused(why) => format!("there was no connection: {why}"),
    };
    (Outcome::Broken, detail)
}

/// A name as it is, and as upstreams that make variables of names would take it for the same (RFC 3875 §4.1.18).
fn spelled(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned(), name.to_ascii_uppercase()];
    if name.contains('-') {
        names.extend([name.replace('-', "_"), name.replacen('-', "_", 1)]);
    }
    // One dash is replaced by either.
    names.dedup();
    names
}

const CLAIMS: &str = "who the client is, no client says";
const ADDRESSES: &str = "whence the client comes, no client says";
/// Nothing else has it (RFC 5737).
const MARK: &str = "203.0.113.66";
/// Trailers of HTTP/1.1 have 32 fields at most.
const NAMES_MAX: usize = 24;
const STRIPPED: &str = "ringward_identity_headers_stripped_total";
