//! The part of the input that stays the same for a whole connection: client and connection.
//!
//! The only file that knows [`PeerIdentity`]: what it says is all that policies learn of a certificate. What a client
//! merely claims, as a certificate that a virtual host observes without requiring it, has no type that fits here.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use regorus::Value;
use ringward_identity::PeerIdentity;

use crate::input::facts::Facts;
use crate::input::values::{list, object, text};
use crate::input::view::ConnectionView;

/// Who asks, and over which connection, as values of the evaluator.
///
/// Built once per connection, cloned by reference count. It does not depend on a policy: it stays valid when policies
/// change, and one subject serves all policies that the connection's requests meet.
#[derive(Debug, Clone)]
pub struct Subject {
    pub(crate) client: Value,
    /// Without `auth_age_seconds`, which changes from request to request.
    pub(crate) connection: Value,
    pub(crate) auth_time_unix: i64,
    /// The client once more, for engines with values of another kind.
    pub(crate) facts: Arc<Facts>,
}

impl Subject {
    /// The subject of a connection whose client was identified as `peer`, or was not identified at all.
    pub fn new(peer: Option<&PeerIdentity>, connection: &ConnectionView<'_>) -> Self {
        Self::from_claims(&peer.map(Claims::of).unwrap_or_default(), connection)
    }

    /// Whether both are of one connection; cheap.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same = |a: &Value, b: &Value| matches!((a, b), (Value::Object(a), Value::Object(b)) if Arc::ptr_eq(a, b));
        same(&self.client, &other.client) && same(&self.connection, &other.connection)
    }

    pub(crate) fn from_claims(claims: &Claims<'_>, connection: &ConnectionView<'_>) -> Self {
        Self {
            client: claims.value(),
            connection: connection_value(connection),
            auth_time_unix: connection.auth_time_unix,
            facts: Arc::new(Facts::of(claims)),
        }
    }
}

/// What policies see of a verified certificate chain; the default is a client without one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims<'a> {
    pub(crate) verified: bool,
    pub(crate) name: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) identity: &'a str,
    pub(crate) spiffe_id: &'a str,
    pub(crate) trust_domain: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) issuer: &'a str,
    pub(crate) common_names: Cow<'a, [String]>,
    pub(crate) organizations: Cow<'a, [String]>,
    pub(crate) organizational_units: Cow<'a, [String]>,
    pub(crate) organization_identifiers: Cow<'a, [String]>,
    pub(crate) uris: Cow<'a, [String]>,
    pub(crate) dns: Cow<'a, [String]>,
    pub(crate) emails: Cow<'a, [String]>,
    pub(crate) ips: Cow<'a, [IpAddr]>,
    pub(crate) serial: &'a str,
    pub(crate) fingerprint_sha256: &'a str,
    pub(crate) not_before_unix: i64,
    pub(crate) not_after_unix: i64,
    pub(crate) chain_depth: usize,
    pub(crate) extended_key_usages: Cow<'a, [String]>,
    pub(crate) policy_oids: Cow<'a, [String]>,
    /// Dotted OID and text of each selected extension; the text is empty if it is no string.
    pub(crate) extensions: Vec<(&'a str, &'a str)>,
}

impl<'a> Claims<'a> {
    fn of(peer: &'a PeerIdentity) -> Self {
        Self {
            verified: true,
            name: peer.name(),
            tenant: peer.tenant().unwrap_or(""),
            identity: peer.identity(),
            spiffe_id: peer.spiffe_id().map_or("", |id| id.as_str()),
            trust_domain: peer.spiffe_id().map_or("", |id| id.trust_domain()),
            subject: peer.subject(),
            issuer: peer.issuer(),
            common_names: peer.common_names().into(),
            organizations: peer.organizations().into(),
            organizational_units: peer.organizational_units().into(),
            organization_identifiers: peer.organization_identifiers().into(),
            uris: peer.san_uris().into(),
            dns: peer.san_dns().into(),
            emails: peer.san_emails().into(),
            ips: peer.san_ips().into(),
            serial: peer.serial(),
            fingerprint_sha256: peer.fingerprint_hex(),
            not_before_unix: peer.not_before_unix(),
            not_after_unix: peer.not_after_unix(),
            chain_depth: peer.chain_depth(),
            extended_key_usages: peer.extended_key_usages().into(),
            policy_oids: peer.policy_oids().into(),
            extensions: peer.extensions().iter().map(|e| (e.oid(), e.utf8().unwrap_or(""))).collect(),
        }
    }

    fn value(&self) -> Value {
        let texts = |texts: &[String]| list(texts.iter().map(|item| text(item)));
        // A name that must be the only one of its kind: with several, which of them is meant is the policy's question.
        let common_name = match self.common_names.as_ref() {
            [only] => only.as_str(),
            _ => "",
        };
        object([
            ("chain_depth", Value::from(self.chain_depth)),
            ("extended_key_usages", texts(&self.extended_key_usages)),
            ("extensions", object(self.extensions.iter().map(|(oid, value)| (*oid, text(value))))),
            ("fingerprint_sha256", text(self.fingerprint_sha256)),
            ("identity", text(self.identity)),
            ("issuer", object([("dn", text(self.issuer))])),
            ("name", text(self.name)),
            ("not_after_unix", Value::from(self.not_after_unix)),
            ("not_before_unix", Value::from(self.not_before_unix)),
            ("policy_oids", texts(&self.policy_oids)),
            (
                "san",
                object([
                    ("dns", texts(&self.dns)),
                    ("email", texts(&self.emails)),
                    ("ip", list(self.ips.iter().map(|ip| text(&ip.to_string())))),
                    ("uri", texts(&self.uris)),
                ]),
            ),
            ("serial", text(self.serial)),
            ("spiffe_id", text(self.spiffe_id)),
            (
                "subject",
                object([
                    ("common_name", text(common_name)),
                    ("common_names", texts(&self.common_names)),
                    ("dn", text(self.subject)),
                    ("organization_identifiers", texts(&self.organization_identifiers)),
                    ("organizational_units", texts(&self.organizational_units)),
                    ("organizations", texts(&self.organizations)),
                ]),
            ),
            ("tenant", text(self.tenant)),
            ("trust_domain", text(self.trust_domain)),
            ("verified", Value::Bool(self.verified)),
        ])
    }
}

fn connection_value(connection: &ConnectionView<'_>) -> Value {
    object([
        ("alpn", text(connection.alpn)),
        ("auth_time_unix", Value::from(connection.auth_time_unix)),
        ("cipher", text(connection.cipher)),
        ("local_port", Value::from(u32::from(connection.local_port))),
        ("remote_addr", text(&connection.remote.ip().to_canonical().to_string())),
        ("remote_port", Value::from(u32::from(connection.remote.port()))),
        ("resumed", Value::Bool(connection.resumed)),
        ("sni", text(connection.sni)),
        ("tls_version", text(connection.tls_version)),
    ])
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use ringward_identity::IdentityOptions;

    use super::*;
    use crate::input::sample;

    #[test]
    fn claims_come_from_the_certificate() {
        let ia5 = |text: &str| Ia5String::try_from(text).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Partner A");
        params.distinguished_name.push(DnType::OrganizationName, "Partner");
        params.distinguished_name.push(DnType::OrganizationalUnitName, "API");
        params.subject_alt_names = vec![
            SanType::URI(ia5("spiffe://example.com/ns/shop/sa/orders")),
            SanType::DnsName(ia5("orders.example.com")),
            SanType::Rfc822Name(ia5("orders@example.com")),
            SanType::IpAddress("192.0.2.9".parse().unwrap()),
        ];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let peer =
            PeerIdentity::from_verified_chain(&[certificate.der()], &IdentityOptions::default()).unwrap();
        let peer = peer.with_tenant("shop".into(), "orders".into());
        let client = Subject::new(Some(&peer), &sample::connection()).client;
        let at = |path: &str| {
            let names: Vec<&str> = path.split('.').collect();
            crate::documents::at(&client, &names).unwrap().clone()
        };
        let only = |value: &str| Value::from(vec![Value::from(value)]);
        assert_eq!(at("verified"), Value::Bool(true));
        assert_eq!(at("spiffe_id"), Value::from("spiffe://example.com/ns/shop/sa/orders"));
        assert_eq!(at("trust_domain"), Value::from("example.com"));
        assert_eq!(at("tenant"), Value::from("shop"));
        assert_eq!(at("identity"), Value::from("orders"));
        assert_eq!(at("subject.common_name"), Value::from("Partner A"));
        assert_eq!(at("subject.common_names"), only("Partner A"));
        assert_eq!(at("subject.organizations"), only("Partner"));
        assert_eq!(at("subject.organizational_units"), only("API"));
        assert_eq!(at("san.uri"), only("spiffe://example.com/ns/shop/sa/orders"));
        assert_eq!(at("san.dns"), only("orders.example.com"));
        assert_eq!(at("san.email"), only("orders@example.com"));
        assert_eq!(at("san.ip"), only("192.0.2.9"));
        assert_eq!(at("fingerprint_sha256"), Value::from(peer.fingerprint_hex()));
        assert_eq!(at("serial"), Value::from(peer.serial()));
        assert_eq!(at("chain_depth"), Value::from(1_u64));
        assert_eq!(at("not_after_unix"), Value::from(peer.not_after_unix()));
        // The same fields as an invented client has, so that the golden document speaks for both.
        let names = |client: &Value| client.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&client), names(&sample::subject().client));
    }

    #[test]
    fn a_peer_without_tenant_is_called_by_its_name() {
        let params = CertificateParams::new(["orders.example.com".to_owned()]).unwrap();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let peer =
            PeerIdentity::from_verified_chain(&[certificate.der()], &IdentityOptions::default()).unwrap();
        let client = Subject::new(Some(&peer), &sample::connection()).client;
        assert_eq!(client["tenant"], Value::from(""));
        assert_eq!(client["identity"], Value::from("orders.example.com"));
    }

    /// An observed certificate gives no [`PeerIdentity`], and there is no other way in.
    #[test]
    fn a_client_without_identity_has_no_claim_at_all() {
        let new: fn(Option<&PeerIdentity>, &ConnectionView<'_>) -> Subject = Subject::new;
        let client = new(None, &sample::connection()).client;
        let claimed = |value: &Value| match value {
            Value::Object(fields) => fields.iter().any(|(_, field)| !is_empty(field)),
            _ => true,
        };
        assert!(!claimed(&client), "{client}");
    }

    /// `""`, `[]`, `0`, `false`, or an object of such.
    fn is_empty(value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields.iter().all(|(_, field)| is_empty(field)),
            other => {
                [Value::from(""), Value::new_array(), Value::from(0_u64), Value::Bool(false)].contains(other)
            }
        }
    }

    #[test]
    fn one_of_several_common_names_is_never_chosen() {
        let names = vec!["a".to_owned(), "b".to_owned()];
        let claims = Claims { common_names: names.into(), ..sample::claims() };
        let client = Subject::from_claims(&claims, &sample::connection()).client;
        assert_eq!(client["subject"]["common_name"], Value::from(""));
    }
}
