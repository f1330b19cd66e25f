//! Whose certificate a request's client has, where a load balancer that ends TLS forwards it.
//!
//! The load balancer is known by its own certificate, which the handshake has verified; what it forwards is verified by the rules of
//! the host before anybody is known by it. Its request is never its own: what it has no certificate for comes from an anonymous
//! client. What anybody else says is not read.

use ringward_config::{ClientAuthMode, ForwardedIdentityHeader};
use ringward_http::{Field, RequestHead};
use ringward_identity::{ForwardedError, chain_of_rfc9440, chain_of_xfcc, headers};
use ringward_telemetry::ForwardedIdentity as Verdict;
use ringward_tls::{Admitted, HandshakeFailure};

use crate::{
    connection::Connection,
    error::ProxyError,
    on_behalf::Counted,
    snapshot::{Host, Listener},
    worker::View,
};

/// The client that a load balancer has passed a request on for.
pub(crate) struct Forwarded {
    client: Client,
    /// How many fields of the request have said so.
    pub(crate) fields: u64,
}

enum Client {
    /// It has shown no certificate.
    Anonymous,
    /// It is known.
    Known(Admitted),
    /// It has shown one that is not accepted, and why.
    Refused(Box<str>),
}

impl Forwarded {
    /// The client, if it is known.
    pub(crate) fn admitted(&self) -> Option<&Admitted> {
        match &self.client {
            Client::Known(admitted) => Some(admitted),
            Client::Anonymous | Client::Refused(_) => None,
        }
    }

    /// The client as a route of this mode sees it; `None` for an anonymous one.
    ///
    /// # Errors
    /// [`ProxyError::CertificateRequired`] and [`ProxyError::CertificateRefused`] when the route does not take it.
    pub(crate) fn identify(&self, mode: ClientAuthMode) -> Result<Option<&Admitted>, ProxyError> {
        match (mode, &self.client) {
            (ClientAuthMode::Off | ClientAuthMode::Observe, _) => Ok(None),
            (_, Client::Known(admitted)) => Ok(Some(admitted)),
            (_, Client::Refused(why)) => Err(ProxyError::CertificateRefused(why.clone())),
            (ClientAuthMode::Optional, Client::Anonymous) => Ok(None),
            (ClientAuthMode::Required, Client::Anonymous) => Err(ProxyError::CertificateRequired),
        }
    }

    /// Looks once more at a client that was let pass: time may have ended what vouches for it.
    ///
    /// # Errors
    /// [`ProxyError::CertificateRefused`].
    pub(crate) fn check_standing(&self, host: &Host, now_unix: i64) -> Result<(), ProxyError> {
        let (Client::Known(admitted), Some(forwarding)) = (&self.client, &host.forwarding) else {
            return Ok(());
        };
        let stands = forwarding.auth.check_standing(&admitted.path, &admitted.identity, now_unix);
        stands.map_err(|failure| ProxyError::CertificateRefused(said(&failure)))
    }
}

/// Finds out whose certificate a request's client has; `None` where that is its connection's affair.
///
/// # Errors
/// [`ProxyError::BadForwardedIdentity`] when a load balancer has forwarded what cannot be read, and
/// [`ProxyError::UnlistedForwarder`] when somebody else has, and the host refuses that.
pub(crate) fn of(
    connection: &Connection,
    view: &View,
    (listener, admitted_as): (&Listener, usize),
    head: &RequestHead,
    counted: &Counted,
) -> Result<Option<Forwarded>, ProxyError> {
    if !listener.has_forwarding {
        return Ok(None);
    }
    let Some(index) = listener.host_index(Some(head.host())) else { return Ok(None) };
    let host = &listener.hosts[index];
    let Some(forwarding) = &host.forwarding else { return Ok(None) };
    // What the handshake has verified counts for hosts with the same rules; for others the answer is 421.
    if !listener.hosts[admitted_as].vouches_for(host) {
        return Ok(None);
    }
    let shard = &connection.worker.shard;
    let count = |verdict: Verdict| {
        if counted.is_new(verdict.as_str()) {
            shard.forwarded_identity(connection.facts.listener, verdict);
        }
    };
    let rules = &forwarding.rules;
    if !rules.is_from(connection.standing.admission().terms.peer.as_deref()) {
        if head.names().any(headers::is_identity_lookalike) {
            count(Verdict::Unlisted);
            if rules.refuses_others {
                return Err(ProxyError::UnlistedForwarder);
            }
        }
        return Ok(None);
    }
    let (chain, fields) = chain(rules.header, head).map_err(|why| {
        count(Verdict::Malformed);
        ProxyError::BadForwardedIdentity(why)
    })?;
    if chain.is_empty() {
        count(Verdict::Absent);
        return Ok(Some(Forwarded { client: Client::Anonymous, fields }));
    }
    let client = match view.forwarded((listener.index, index), forwarding).judge(&chain) {
        Ok(admitted) => {
            count(Verdict::Admitted);
            Client::Known(admitted)
        }
        Err(refused) => {
            let reason = refused.reason.as_str();
            if counted.is_new(reason) {
                shard.forwarded_identity_refused(connection.facts.listener, reason);
            }
            Client::Refused(said(&refused))
        }
    };
    Ok(Some(Forwarded { client, fields }))
}

fn said(failure: &HandshakeFailure) -> Box<str> {
    format!("forwarded by a load balancer: {}: {}", failure.reason, failure.message).into()
}

/// The chain that a head forwards, leaf first, and of how many fields. Names are read exactly: what only looks like them is removed.
fn chain(header: ForwardedIdentityHeader, head: &RequestHead) -> Result<(Vec<Vec<u8>>, u64), ForwardedError> {
    let values = |name: &'static str| {
        let named = move |field: &Field<'_>| field.name.eq_ignore_ascii_case(name);
        head.fields().filter(named).map(|field| field.value)
    };
    let once = |name: &'static str| {
        let mut values = values(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(ForwardedError::Repeated),
            (value, None) => Ok(value),
        }
    };
    let count = |name: &'static str| values(name).count() as u64;
    match header {
        ForwardedIdentityHeader::ClientCert => {
            let chain = chain_of_rfc9440(once(headers::CLIENT_CERT)?, values(headers::CLIENT_CERT_CHAIN))?;
            Ok((chain, count(headers::CLIENT_CERT) + count(headers::CLIENT_CERT_CHAIN)))
        }
        ForwardedIdentityHeader::XForwardedClientCert => {
            let value = once(headers::X_FORWARDED_CLIENT_CERT)?;
            Ok((value.map_or(Ok(Vec::new()), chain_of_xfcc)?, u64::from(value.is_some())))
        }
    }
}
