use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches};
use ringward_testkit::Pki;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::*;
use crate::tls::{self, Offer};

/// The identities of a directory.
struct Fleet(BTreeMap<Class, Vec<Identity>>);

impl Fleet {
    /// Reads all that there is.
    fn read(dir: &Path) -> Result<Fleet, FleetError> {
        let mut classes = BTreeMap::new();
        for class in Class::ALL {
            match identities(dir, class) {
                Ok(identities) => drop(classes.insert(class, identities)),
                Err(FleetError::NoneOfClass { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Fleet(classes))
    }

    fn class(&self, class: Class) -> &[Identity] {
        self.0.get(&class).map_or(&[], Vec::as_slice)
    }
}

/// A fleet in a temporary directory.
struct Made {
    /// Removes it all in the end.
    pki: Pki,
    plan: FleetPlan,
}

impl Made {
    fn new(plan: FleetPlan) -> Made {
        let pki = Pki::new();
        make(&plan, &pki.path().join("fleet")).unwrap();
        Made { pki, plan }
    }

    fn dir(&self) -> PathBuf {
        self.pki.path().join("fleet")
    }

    fn files(&self) -> Files {
        Files::of(&self.dir())
    }

    fn read(&self) -> Fleet {
        Fleet::read(&self.dir()).unwrap()
    }

    /// Judges clients as a gateway with these files does.
    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let lists = CertificateRevocationListDer::pem_file_iter(self.files().client_crl).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        WebPkiClientVerifier::builder_with_provider(roots(&self.files().client_ca), provider)
            .with_crls(lists.map(Result::unwrap))
            .enforce_revocation_expiration()
            .build()
            .unwrap()
    }

    /// What OpenSSL says about a client.
    fn openssl(&self, identity: &Identity) -> String {
        let pem = |name: &str, certificates: &[CertificateDer<'_>]| {
            let text = certificates.iter().map(|der| {
                let pem = ringward_testkit::openssl(["x509", "-inform", "DER"], der);
                String::from_utf8(pem).unwrap()
            });
            self.pki.write(name, text.collect::<String>())
        };
        let mut command = Command::new("openssl");
        command.args(["verify", "-crl_check_all", "-purpose", "sslclient", "-CAfile"]);
        command.arg(self.files().client_ca).arg("-CRLfile").arg(self.files().client_crl);
        command.arg("-untrusted").arg(pem("sent.pem", &identity.chain[1..]));
        let output = command.arg(pem("leaf.pem", &identity.chain[..1])).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }
}

fn roots(file: &Path) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(file).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    Arc::new(roots)
}

fn small() -> FleetPlan {
    FleetPlan {
        authorities: 2,
        tenants: 3,
        valid: 5,
        expired: 2,
        not_yet_valid: 2,
        revoked: 3,
        wrong_ca: 2,
        no_client_auth: 2,
        ..FleetPlan::default()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Each class fails for its own reason and no other, in the judgement of two that know nothing of each other.
#[test]
fn every_class_is_what_its_name_says() {
    let made = Made::new(small());
    let (fleet, verifier) = (made.read(), made.verifier());
    let judge = |identity: &Identity| {
        verifier
            .verify_client_cert(&identity.chain[0], &identity.chain[1..], UnixTime::now())
            .map(drop)
            .map_err(|error| match error {
                Error::InvalidCertificate(error) => error,
                error => panic!("{error}"),
            })
    };
    type Wanted = fn(&Result<(), CertificateError>) -> bool;
    let wanted: [(Class, Wanted, &str); 6] = [
        (Class::Valid, |outcome| outcome.is_ok(), "leaf.pem: OK"),
        (
            Class::Expired,
            |outcome| matches!(outcome, Err(CertificateError::ExpiredContext { .. })),
            "error 10 at 0 depth lookup",
        ),
        (
            Class::NotYetValid,
            |outcome| matches!(outcome, Err(CertificateError::NotValidYetContext { .. })),
            "error 9 at 0 depth lookup",
        ),
        (
            Class::Revoked,
            |outcome| matches!(outcome, Err(CertificateError::Revoked)),
            "error 23 at 0 depth lookup",
        ),
        (
            Class::WrongCa,
            |outcome| matches!(outcome, Err(CertificateError::UnknownIssuer)),
            "error 20 at 1 depth lookup",
        ),
        (
            Class::NoClientAuth,
            |outcome| matches!(outcome, Err(CertificateError::InvalidPurposeContext { .. })),
            "error 26 at 0 depth lookup",
        ),
    ];
    for (class, is_wanted, openssl) in wanted {
        assert_eq!(fleet.class(class).len(), made.plan.count(class) as usize, "{class}");
        assert_eq!(class.is_right(), class == Class::Valid);
        for identity in fleet.class(class) {
            let outcome = judge(identity);
            assert!(is_wanted(&outcome), "{class} {}: {outcome:?}", identity.name);
            let said = made.openssl(identity);
            assert!(said.contains(openssl), "{class} {}: {said}", identity.name);
            assert_eq!(said.matches("error ").count(), usize::from(!class.is_right()) * 2, "{said}");
        }
    }
}

#[test]
fn what_is_read_is_what_was_made() {
    let made = Made::new(small());
    let fleet = made.read();
    let mut serials = Vec::new();
    let mut next = 0;
    for class in Class::ALL {
        let same = identities(&made.dir(), class).unwrap();
        for (identity, again) in fleet.class(class).iter().zip(&same) {
            let leaf = X509Certificate::from_der(&identity.chain[0]).unwrap().1;
            let (name, tenant) = (format!("client-{next:06}"), format!("tenant-{:02}", next % 3));
            assert_eq!(identity.name, name);
            assert_eq!(leaf.subject().to_string(), format!("O={tenant}, CN={name}"));
            let names = leaf.subject_alternative_name().unwrap().unwrap();
            let uri = format!("spiffe://fleet.test/{tenant}/{name}");
            assert_eq!(names.value.general_names, [GeneralName::URI(&uri)]);
            let issuer = if class == Class::WrongCa {
                "Strangers".into()
            } else {
                format!("Clients {}", next % 2 + 1)
            };
            assert_eq!(leaf.issuer().to_string(), format!("CN=Load {issuer} Issuing"));
            assert_eq!(leaf.raw_serial().len(), 16);
            assert_eq!(identity.chain.len(), 2);
            assert_eq!((&again.chain, &again.key), (&identity.chain, &identity.key));
            serials.push(leaf.raw_serial().to_vec());
            next += 1;
        }
    }
    assert_eq!(next, 16);
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 16, "no serial twice");

    let issuers = CertificateDer::pem_file_iter(made.files().client_issuers).unwrap();
    let issuers: Vec<_> = issuers.map(Result::unwrap).collect();
    assert!(fleet.class(Class::Valid)[..2].iter().map(|identity| &identity.chain[1]).eq(&issuers));

    let text = fs::read_to_string(made.files().summary).unwrap();
    for part in [
        "server_names = [\"api.example.com\", \"localhost\"]\nkey_type = \"p256\"\nauthorities = 2\ntenants = 3\n",
        "[class.valid]\ncount = 5\nfirst = \"client-000000\"\nlast = \"client-000004\"\n",
        "[class.revoked]\ncount = 3\nfirst = \"client-000009\"\nlast = \"client-000011\"\n",
    ] {
        assert!(text.contains(part), "{part}{text}");
    }
}

/// Also if they are made in several batches.
#[test]
fn many_are_in_order() {
    let made = Made::new(FleetPlan { valid: 1000, ..small() });
    let names =
        made.read().class(Class::Valid).iter().map(|identity| identity.name.clone()).collect::<Vec<_>>();
    assert_eq!(names, (0..1000).map(|number| format!("client-{number:06}")).collect::<Vec<_>>());
}

#[test]
fn every_key_type_can_be_used() {
    for (key_type, header) in [
        (KeyType::P256, "id-ecPublicKey"),
        (KeyType::Rsa2048, "rsaEncryption"),
        (KeyType::Ed25519, "ED25519"),
    ] {
        let made = Made::new(FleetPlan { key_type, valid: 1, revoked: 0, ..small() });
        let identity = identities(&made.dir(), Class::Valid).unwrap().remove(0);
        let text =
            ringward_testkit::openssl(["x509", "-inform", "DER", "-noout", "-text"], &identity.chain[0]);
        assert!(String::from_utf8(text).unwrap().contains(header), "{header}");
        assert!(made.openssl(&identity).contains("leaf.pem: OK"));
        ringward_testkit::openssl(["pkey", "-check", "-noout", "-inform", "DER"], identity.key.secret_der());
        let shared =
            tls::Common::new(&made.files().server_ca, &Offer::default()).unwrap().client(None).unwrap();
        assert_eq!(client_configs(&shared, [identity]).unwrap().len(), 1);
    }
}

#[test]
fn the_gateway_has_its_names() {
    let names = ["gateway.example", "*.wild.example", "::1"];
    let made = Made::new(FleetPlan { server_names: names.map(str::to_owned).to_vec(), ..small() });
    let files = made.files();
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&files.server_chain).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&files.server_key).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    rustls::sign::CertifiedKey::from_der(chain.clone(), key, &provider).unwrap();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(&files.server_ca), provider).build().unwrap();
    for (name, right) in [
        ("gateway.example", true),
        ("any.wild.example", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("localhost", false),
    ] {
        let name = ServerName::try_from(name).unwrap();
        let outcome = verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now());
        assert_eq!(outcome.is_ok(), right, "{name:?}: {outcome:?}");
    }
}

#[test]
fn keys_are_for_their_owner_alone() {
    let made = Made::new(small());
    let files = made.files();
    for directory in [&made.dir(), &files.clients] {
        assert_eq!(mode(directory), 0o700);
    }
    let classes = Class::ALL.map(|class| files.class(class));
    for file in classes.iter().chain([&files.server_key]) {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    assert_eq!(fs::read_dir(made.dir()).unwrap().count(), 8);
    assert_eq!(fs::read_dir(&files.clients).unwrap().count(), 6);
}

#[test]
fn nothing_is_overwritten() {
    let pki = Pki::new();
    let file = pki.write("kept/file", "kept");
    let error = make(&small(), file.parent().unwrap()).unwrap_err().to_string();
    assert!(error.contains("kept` is not empty"), "{error}");
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    let error = make(&small(), &file).unwrap_err().to_string();
    assert!(error.contains("kept/file` cannot be written"), "{error}");
    // An empty one will do, and becomes private.
    let empty = pki.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o755)).unwrap();
    make(&small(), &empty).unwrap();
    assert_eq!(mode(&empty), 0o700);
}

#[test]
fn plans_are_bounded() {
    let pki = Pki::new();
    let usual = small;
    for (plan, wanted) in [
        (FleetPlan { authorities: 0, ..usual() }, "--authorities 0: must be a number from 1 to 100"),
        (FleetPlan { tenants: 0, ..usual() }, "--tenants 0: must be a number from 1 to 100000"),
        (FleetPlan { valid: 1_000_001, ..usual() }, "--clients 1000001: must be a number from 0 to 1000000"),
        (FleetPlan { wrong_ca: u32::MAX, ..usual() }, "--wrong-ca 4294967295: must be"),
        (FleetPlan { valid_days: 3651, ..usual() }, "--valid-days 3651: must be a number from 1 to 3650"),
        (FleetPlan { server_names: vec!["a..b".into()], ..usual() }, "--server-name \"a..b\" is neither"),
        (
            FleetPlan { server_names: vec!["a\"\n".into()], ..usual() },
            "--server-name \"a\\\"\\n\" is neither",
        ),
    ] {
        let dir = pki.path().join("fleet");
        let error = make(&plan, &dir).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        assert!(!dir.exists());
    }
    let words = ["ringward-load", "pki", "--out", "x"];
    let matches = crate::Arguments::command().try_get_matches_from(words).unwrap();
    let crate::Command::Pki(arguments) = crate::Arguments::from_arg_matches(&matches).unwrap().command else {
        panic!("another command");
    };
    assert_eq!(arguments.plan, FleetPlan::default());
}

#[test]
fn what_is_missing_is_named() {
    let made = Made::new(FleetPlan { revoked: 0, ..small() });
    let message =
        |outcome: Result<_, FleetError>| outcome.map(drop::<Vec<Identity>>).unwrap_err().to_string();
    let error = message(identities(&made.dir(), Class::Revoked));
    assert!(error.contains("no identities of class revoked") && error.contains("--revoked N"), "{error}");
    assert!(made.read().class(Class::Revoked).is_empty());
    fs::remove_file(made.files().summary).unwrap();
    let error = message(identities(&made.dir(), Class::Valid));
    assert!(error.contains("fleet` is no whole fleet"), "{error}");
    for class in Class::ALL {
        assert_eq!(class.name().parse::<Class>().unwrap(), class);
        assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{class}\""));
        assert_eq!(serde_json::from_str::<Class>(&format!("\"{class}\"")).unwrap(), class);
    }
    let error = "revokd".parse::<Class>().unwrap_err().to_string();
    assert!(error.contains("`revokd` is no class") && error.contains("not_yet_valid"), "{error}");
}

#[test]
fn bad_files_are_told_with_the_identity() {
    let made = Made::new(small());
    let file = made.files().class(Class::Valid);
    let text = fs::read_to_string(&file).unwrap();
    let sections: Vec<_> = text.split_inclusive("-----END CERTIFICATE-----\n").collect();
    let keys: Vec<_> = text.match_indices("-----BEGIN PRIVATE").map(|(at, _)| at).collect();
    // The third identity's key, and all after it.
    let (before, third) = text.split_at(keys[2]);
    let key = third.split_inclusive("-----END PRIVATE KEY-----\n").next().unwrap();
    let broken = |part: &str| {
        let mut lines: Vec<_> = part.lines().collect();
        lines[1] = "%%%%";
        lines.join("\n") + "\n"
    };
    let leaf = sections[0].split_inclusive("-----END PRIVATE KEY-----\n").nth(1).unwrap();
    let list = fs::read_to_string(made.files().client_crl).unwrap();
    let long = format!("-----BEGIN CERTIFICATE-----\n{}", "A".repeat(70_000));
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (text, wanted) in [
        (format!("{before}{}", broken(third)), "identity 3: "),
        (format!("{before}{key}{}", broken(leaf)), "identity 3: "),
        (format!("{before}{key}{key}{leaf}"), "identity 3: there is a key and no certificate"),
        (format!("{before}{key}"), "identity 3: there is a key and no certificate"),
        (format!("{before}{key}{no_certificate}"), "identity 3: the first certificate cannot be read"),
        (format!("{before}{key}{}", list), "identity 3: there is something that is neither"),
        (format!("{before}{key}{}", leaf.repeat(11)), "identity 3: there are more than ten"),
        (format!("{before}{key}{long}"), "identity 3: a section is longer than 64 KiB"),
        (text[..keys[2] + 60].to_owned(), "identity 3: "),
        (leaf.to_owned(), "identity 1: a certificate is where its key should be"),
        ("nothing\n".to_owned(), "has no identities of class valid"),
    ] {
        fs::write(&file, text).unwrap();
        let error = Fleet::read(&made.dir()).map(|fleet| fleet.class(Class::Valid).len());
        match error {
            // A class that is not there is no failure of the whole.
            Ok(0) if wanted.starts_with("has no") => {}
            Ok(count) => panic!("{wanted}: {count} were read"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("valid.pem`, ") && error.contains(wanted), "{wanted}: {error}");
            }
        }
        let error = identities(&made.dir(), Class::Valid).unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

#[test]
fn configurations_share_what_they_have_in_common() {
    let made = Made::new(small());
    let shared = tls::Common::new(&made.files().server_ca, &Offer::default()).unwrap().client(None).unwrap();
    let identities = || identities(&made.dir(), Class::Valid).unwrap();
    let configs = client_configs(&shared, identities()).unwrap();
    assert_eq!(configs.len(), 5);
    for (config, identity) in configs.iter().zip(identities()) {
        assert!(Arc::ptr_eq(config.crypto_provider(), shared.crypto_provider()));
        assert!(config.client_auth_cert_resolver.has_certs());
        let sent = config.client_auth_cert_resolver.resolve(&[], &[]).unwrap();
        assert_eq!(sent.cert, identity.chain);
        assert_eq!(config.alpn_protocols, shared.alpn_protocols);
    }
    let mut mixed = identities();
    let other = mixed.remove(1);
    mixed[0].key = other.key;
    let error = client_configs(&shared, mixed).map(drop::<Vec<Arc<ClientConfig>>>).unwrap_err().to_string();
    assert!(error.contains("identity client-000000 cannot be used"), "{error}");
}
