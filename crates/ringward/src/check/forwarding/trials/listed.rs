//! Load balancers: what listed ones say of addresses is taken as configured, and what others say is not.

use std::net::Ipv4Addr;

use ringward_config::{ClientAddress, ClientAddressHeader, ForwardMode};

use super::place::{Place, coming, header};
use super::{MARK, Stage, Verdict, broken, nothing_arrived};
use crate::check::forwarding::ask::{Answer, Ask};
use crate::check::forwarding::rehearsal::{BALANCER, CLIENT, PROXY};
use crate::check::forwarding::report::Outcome;

impl Stage<'_> {
    /// `client_address`.
    pub(super) async fn of_addresses(&mut self, place: &Place<'_>) -> Result<(), String> {
        let Some(rules) = &place.at.client_address else { return Ok(()) };
        for http2 in place.protocols() {
            let mut ask = place.ask(http2);
            (ask.source, ask.preface) = coming(place.at, PROXY);
            ask.fields.push(list(rules, NAMED));
            let verdict = self.of_address(place, &ask, ("taken", NAMED)).await?;
            self.add(&place.names(), Some(http2), "a listed proxy names the client", verdict);
            let mut ask = place.ask(http2);
            ask.fields.push(list(rules, MARK));
            let verdict = self.of_address(place, &ask, ("untrusted", &CLIENT.to_string())).await?;
            self.add(&place.names(), Some(http2), "nobody else names one", verdict);
        }
        Ok(())
    }

    /// A request of which upstreams are to hear that it is of `client`.
    async fn of_address(
        &self,
        place: &Place<'_>,
        ask: &Ask<'_>,
        (outcome, client): (&str, &str),
    ) -> Result<Verdict, String> {
        let labels = [("outcome", outcome)];
        let before = self.rehearsal.count(CLAIMS, &labels);
        let (answer, seen) = self.send(ask).await?;
        let Some(seen) = seen.first() else { return Ok(nothing_arrived(&answer)) };
        if let Some(told) = told(place, &seen.values("x-forwarded-for"), client) {
            return Ok(told);
        }
        Ok(self.counted((CLAIMS, &labels), before, "the upstream hears of the right one").await)
    }

    /// `proxy_protocol`.
    pub(super) async fn of_proxy_protocol(&mut self, place: &Place<'_>) -> Result<(), String> {
        let Some(rules) = &place.at.proxy_protocol else { return Ok(()) };
        let (answer, seen) = self.send(&place.ask_anyhow()).await?;
        let verdict = match seen.first() {
            None => nothing_arrived(&answer),
            Some(seen) => {
                let named = "the client is whom its header of the PROXY protocol names".to_owned();
                told(place, &seen.values("x-forwarded-for"), &CLIENT.to_string())
                    .unwrap_or((Outcome::Kept, named))
            }
        };
        self.add(&place.names(), None, "a listed load balancer names the client", verdict);
        // Whom it is not read of, it breaks the handshake of.
        let reason = if rules.serves_others { None } else { Some("proxy_source") };
        let spoofed = (CLIENT, header(Ipv4Addr::new(203, 0, 113, 66)));
        let verdict = self.refused(place, spoofed, reason).await?;
        self.add(&place.names(), None, "nobody else's header is read", verdict);
        let verdict = self.refused(place, (BALANCER, Vec::new()), Some("proxy_header")).await?;
        self.add(&place.names(), None, "a listed load balancer has to name one", verdict);
        Ok(())
    }

    /// A connection that must not come to be, for this reason if it is known.
    async fn refused(
        &self,
        place: &Place<'_>,
        (source, preface): (Ipv4Addr, Vec<u8>),
        reason: Option<&str>,
    ) -> Result<Verdict, String> {
        let labels = [("outcome", "failed"), ("reason", reason.unwrap_or_default())];
        let labels = if reason.is_some() { &labels[..] } else { &labels[..1] };
        let before = self.rehearsal.count(HANDSHAKES, labels);
        let (answer, seen) = self.send(&Ask { source, preface, ..place.ask_anyhow() }).await?;
        match answer {
            Answer::Refused(_) if seen.is_empty() => {
                Ok(self.counted((HANDSHAKES, labels), before, "the connection is refused").await)
            }
            answer => Ok(broken(&answer)),
        }
    }
}

/// The field by which a proxy names this client.
fn list(rules: &ClientAddress, client: &str) -> (String, String) {
    let farther = rules.hops.unwrap_or(1).saturating_sub(1);
    let hops = std::iter::once(client.to_owned()).chain(std::iter::repeat_n(PROXY.to_string(), farther));
    let (name, hops): (&str, Vec<String>) = match rules.header {
        ClientAddressHeader::XForwardedFor => ("x-forwarded-for", hops.collect()),
        ClientAddressHeader::Forwarded => ("forwarded", hops.map(|hop| format!("for={hop}")).collect()),
    };
    (name.to_owned(), hops.join(", "))
}

/// That the upstream is told of another client than `client`, where it is told of one alone.
fn told(place: &Place<'_>, told: &[&str], client: &str) -> Option<Verdict> {
    let is_wrong = place.host.forward.x_forwarded == ForwardMode::Set && told != [client];
    is_wrong.then(|| (Outcome::Broken, format!("the upstream hears of {told:?} and not of {client}")))
}

const CLAIMS: &str = "ringward_client_address_claims_total";
const HANDSHAKES: &str = "ringward_handshakes_finished_total";
/// A client that a proxy names (RFC 5737).
const NAMED: &str = "198.51.100.7";
