//! Certificates for the occasion: an authority for each trust bundle, one for our own side, and one that nobody trusts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use ringward_config::{Config, Host, HostPattern};
use ringward_tls::{Credential, CredentialOptions, CredentialSource, TrustBundle, TrustOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{ClientConfig, RootCertStore};

use crate::pki::{self, Issuer, Validity};

/// All authorities. Their keys are in memory and nowhere else.
pub(super) struct Papers {
    validity: Validity,
    ours: Issuer,
    /// By the name of the bundle.
    bundles: BTreeMap<String, Issuer>,
    strange: Issuer,
}

/// A client's certificate with its key.
pub(super) struct Identity {
    pub(super) leaf: CertificateDer<'static>,
    key: KeyPair,
}

/// Who has signed a certificate.
#[derive(Clone, Copy)]
pub(super) enum Signer<'a> {
    /// The authority of this bundle.
    Bundle(&'a str),
    /// One that nobody trusts.
    Nobodys,
}

impl Papers {
    pub(super) fn new(config: &Config) -> Result<Papers, String> {
        let validity = Validity::now();
        let authority = |name: &str| {
            pki::authority(&format!("ringward check {name}"), &validity).map_err(|error| error.to_string())
        };
        let bundles = config.trust.keys().map(|name| Ok((name.clone(), authority(&format!("for {name}"))?)));
        let bundles = bundles.collect::<Result<_, String>>()?;
        let (ours, strange) = (authority("of its own")?, authority("that nobody trusts")?);
        Ok(Papers { validity, ours, bundles, strange })
    }

    /// What is in force instead of the configuration's bundles: no list, no profile and no pins, as these clients have been heard of
    /// by nobody.
    pub(super) fn trust_bundles(&self) -> Result<Vec<(String, Arc<TrustBundle>)>, String> {
        let bundle = |(name, authority): (&String, &Issuer)| {
            let sources = [(Path::new("made for the check").to_owned(), authority.pem().into_bytes())];
            let bundle = TrustBundle::from_pem(name, &sources, TrustOptions::default(), UnixTime::now());
            bundle.map(|(bundle, _)| (name.clone(), Arc::new(bundle))).map_err(|error| error.to_string())
        };
        self.bundles.iter().map(bundle).collect()
    }

    /// What a host shows instead of its own certificates.
    pub(super) fn credential(&self, host: &Host) -> Result<Arc<Credential>, String> {
        let names: Vec<String> = host.names.iter().map(HostPattern::to_string).collect();
        let (chain, key) =
            pki::server(&names, &self.ours, &self.validity).map_err(|error| error.to_string())?;
        let at = Path::new("made for the check");
        let source = CredentialSource {
            chain_file: at,
            chain_pem: chain.as_bytes(),
            key_file: at,
            key_pem: key.as_bytes(),
        };
        let credential = Credential::from_pem(&source, CredentialOptions::default(), UnixTime::now());
        credential.map(Arc::new).map_err(|error| error.to_string())
    }

    /// A client of this common name, with this DNS name if there is one.
    pub(super) fn client(
        &self,
        signer: Signer<'_>,
        name: &str,
        dns: Option<&str>,
    ) -> Result<Identity, String> {
        let words = |error: rcgen::Error| error.to_string();
        let issuer = match signer {
            Signer::Bundle(name) => self.bundles.get(name).ok_or("the trust bundle is unknown")?,
            Signer::Nobodys => &self.strange,
        };
        let mut params = pki::parameters(name, &self.validity);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(dns) = dns {
            params.subject_alt_names.push(SanType::DnsName(dns.try_into().map_err(words)?));
        }
        let key = KeyPair::generate().map_err(words)?;
        let leaf = params.signed_by(&key, issuer).map_err(words)?;
        Ok(Identity { leaf: leaf.der().clone(), key })
    }

    /// How a client shakes hands that shows `identity`, if any.
    pub(super) fn client_config(
        &self,
        identity: Option<&Identity>,
        alpn: &[u8],
    ) -> Result<ClientConfig, String> {
        let words = |error: rustls::Error| error.to_string();
        let mut roots = RootCertStore::empty();
        roots.add(self.ours.der().clone()).map_err(words)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(words)?
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { leaf, key }) => {
                let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())
                    .map_err(|error| error.to_string())?;
                builder.with_client_auth_cert(vec![leaf.clone()], key).map_err(words)?
            }
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}
