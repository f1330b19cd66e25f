//! Load balancers that forward certificates: `forwarded_identity`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringward_config::{ClientAuthMode, ForwardedIdentity, ForwardedIdentityHeader};
use ringward_identity::headers;
use rustls::pki_types::CertificateDer;

use super::place::Place;
use super::{Stage, Verdict, broken, nothing_arrived};
use crate::check::forwarding::ask::{Answer, Ask};
use crate::check::forwarding::papers::{Identity, Signer};
use crate::check::forwarding::rehearsal::BALANCER_NAME;
use crate::check::forwarding::report::Outcome;
use crate::check::forwarding::upstreams::Seen;

/// Those who take part.
struct Cast {
    balancer: Identity,
    client: Identity,
    stranger: Identity,
}

/// What is tried: what the load balancer forwards, and what has to come of it.
struct Play<'c> {
    contract: &'static str,
    /// Of the connection; of an ordinary client if there is none.
    balancer: Option<&'c Identity>,
    forwarded: Vec<&'c Identity>,
    /// As it is counted.
    verdict: &'static str,
    /// What the client gets if nothing arrives; none if something has to.
    status: Option<u16>,
    /// The only certificate that the upstream may be told of.
    told: Option<&'c Identity>,
}

impl Stage<'_> {
    pub(super) async fn of_forwarders(&mut self, place: &Place<'_>) -> Result<(), String> {
        let Some(rules) = &place.host.forwarded_identity else { return Ok(()) };
        let Cast { balancer, client, stranger } = &self.cast(place, rules)?;
        let is_required = place.route.client_auth == ClientAuthMode::Required;
        for http2 in place.protocols() {
            for play in [
                Play {
                    contract: "a listed load balancer's certificates are taken",
                    balancer: Some(balancer),
                    forwarded: vec![client],
                    verdict: "admitted",
                    status: None,
                    told: Some(client),
                },
                Play {
                    contract: "what it forwards is verified",
                    balancer: Some(balancer),
                    forwarded: vec![stranger],
                    verdict: "unknown_issuer",
                    status: Some(403),
                    told: None,
                },
                Play {
                    contract: "without a certificate its client is nobody",
                    balancer: Some(balancer),
                    forwarded: vec![],
                    verdict: "absent",
                    status: is_required.then_some(403),
                    told: None,
                },
                Play {
                    contract: "what can be read in two ways is refused",
                    balancer: Some(balancer),
                    forwarded: vec![client, stranger],
                    verdict: "malformed",
                    status: Some(400),
                    told: None,
                },
                Play {
                    contract: "nobody else's certificates are taken",
                    balancer: None,
                    forwarded: vec![client],
                    verdict: "unlisted",
                    status: rules.refuses_others.then_some(400),
                    told: place.ask(http2).identity,
                },
            ] {
                let verdict = self.of_forwarder(place, rules, http2, &play).await?;
                self.add(&place.names(), Some(http2), play.contract, verdict);
            }
        }
        Ok(())
    }

    fn cast(&self, place: &Place<'_>, rules: &ForwardedIdentity) -> Result<Cast, String> {
        let papers = &self.rehearsal.papers;
        let of_handshakes = place.host.client_auth.verification().and_then(|rules| rules.trust.first());
        let of_handshakes = of_handshakes.ok_or("the host trusts nobody")?;
        let of_clients = rules.trust.first().ok_or("`forwarded_identity` trusts nobody")?;
        Ok(Cast {
            balancer: papers.client(
                Signer::Bundle(of_handshakes),
                "ringward check balancer",
                Some(BALANCER_NAME),
            )?,
            client: papers.client(Signer::Bundle(of_clients), "ringward check forwarded", None)?,
            stranger: papers.client(Signer::Nobodys, "ringward check stranger", None)?,
        })
    }

    async fn of_forwarder(
        &self,
        place: &Place<'_>,
        rules: &ForwardedIdentity,
        http2: bool,
        play: &Play<'_>,
    ) -> Result<Verdict, String> {
        let ordinary = place.ask(http2);
        let mut ask = Ask { identity: play.balancer.or(ordinary.identity), ..ordinary };
        ask.fields.extend(play.forwarded.iter().map(|client| forwarded(rules, &client.leaf)));
        let labels = [("verdict", play.verdict)];
        let before = self.rehearsal.count(VERDICTS, &labels);
        let (answer, seen) = self.send(&ask).await?;
        if let Some(wrong) = wrongly_told(place, play, &seen) {
            return Ok((Outcome::Broken, wrong));
        }
        let said = match (play.status, &answer) {
            (Some(wanted), Answer::Status(status)) if wanted == *status && seen.is_empty() => {
                format!("the request gets {status}")
            }
            (None, Answer::Status(_)) if !seen.is_empty() => match (play.balancer, play.told) {
                (None, _) => "the request is its sender's own".to_owned(),
                (_, Some(_)) => "the upstream gets the client's certificate".to_owned(),
                (_, None) => "the upstream gets no certificate".to_owned(),
            },
            (None, _) => return Ok(nothing_arrived(&answer)),
            _ => return Ok(broken(&answer)),
        };
        Ok(self.counted((VERDICTS, &labels), before, &said).await)
    }
}

/// That the upstream is told of another certificate than it should be, or of none.
fn wrongly_told(place: &Place<'_>, play: &Play<'_>, seen: &[Seen]) -> Option<String> {
    let told = play.told.filter(|_| place.host.forward.client_cert).map(|told| item(&told.leaf));
    let arrived = |seen: &Seen| seen.values(headers::CLIENT_CERT).iter().map(ToString::to_string).collect();
    let wrong =
        seen.iter().map(arrived).find(|arrived: &Vec<String>| *arrived != Vec::from_iter(told.clone()));
    wrong.map(|arrived| match (arrived.len(), play.balancer) {
        (0, _) => "the upstream is told of no certificate".to_owned(),
        (_, Some(_)) => "the upstream is told of another certificate".to_owned(),
        (_, None) => "the upstream is told of a certificate that an ordinary client has forwarded: does it meet `from`?"
            .to_owned(),
    })
}

/// RFC 9440 §2.1.
fn item(der: &CertificateDer<'_>) -> String {
    format!(":{}:", STANDARD.encode(der))
}

/// The field by which a load balancer forwards a certificate.
fn forwarded(rules: &ForwardedIdentity, der: &CertificateDer<'_>) -> (String, String) {
    match rules.header {
        ForwardedIdentityHeader::ClientCert => (headers::CLIENT_CERT.to_owned(), item(der)),
        ForwardedIdentityHeader::XForwardedClientCert => {
            let body = STANDARD.encode(der);
            let text = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
            let escaped = [('+', "%2B"), ('/', "%2F"), ('=', "%3D"), ('\n', "%0A"), (' ', "%20")];
            let text = escaped.iter().fold(text, |text, (plain, escaped)| text.replace(*plain, escaped));
            (headers::X_FORWARDED_CLIENT_CERT.to_owned(), format!("Cert=\"{text}\""))
        }
    }
}

const VERDICTS: &str = "ringward_forwarded_identities_total";
