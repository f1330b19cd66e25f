//! `crypto.x509.parse_certificates`: certificates as OPA shows them, by the field names of Go's `x509.Certificate`.
//!
//! Nothing is verified: the certificate of a client that was is `input.client`. Fields are those that policies compare;
//! [`OMITTED`] has the others, which `check::literals` refuses, so that none is taken for missing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regorus::Value;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate, X509Name};

use crate::builtins::encodings::base64;
use crate::builtins::{CallError, Function, text};

/// Most bytes of what is read, in PEM or base64.
const BYTES_MAX: usize = 64 * 1024;

/// Most certificates that are read.
const CERTIFICATES_MAX: usize = 16;

/// Fields of Go's that are left out.
pub(crate) const OMITTED: &[&str] = &[
    "AuthorityKeyId",
    "CRLDistributionPoints",
    "ExcludedDNSDomains",
    "ExcludedEmailAddresses",
    "ExcludedIPRanges",
    "ExcludedURIDomains",
    "Extensions",
    "ExtraExtensions",
    "ExtraNames",
    "InhibitAnyPolicy",
    "InhibitAnyPolicyZero",
    "InhibitPolicyMapping",
    "InhibitPolicyMappingZero",
    "IssuingCertificateURL",
    "Names",
    "OCSPServer",
    "PermittedDNSDomains",
    "PermittedDNSDomainsCritical",
    "PermittedEmailAddresses",
    "PermittedIPRanges",
    "PermittedURIDomains",
    "Policies",
    "PolicyIdentifiers",
    "PolicyMappings",
    "PublicKey",
    "PublicKeyAlgorithm",
    "Raw",
    "RawIssuer",
    "RawSubject",
    "RawSubjectPublicKeyInfo",
    "RawTBSCertificate",
    "RequireExplicitPolicy",
    "RequireExplicitPolicyZero",
    "Signature",
    "SignatureAlgorithm",
    "SubjectKeyId",
    "URIs",
    "UnhandledCriticalExtensions",
];

const NAME: &str = "crypto.x509.parse_certificates";

pub(crate) fn functions() -> Vec<Function> {
    vec![(NAME, Box::new(|args| parse_certificates(&args).map_err(Into::into)))]
}

fn parse_certificates(args: &[Value]) -> Result<Value, CallError> {
    let encoded = text(NAME, args, 0)?;
    if encoded.len() > BYTES_MAX {
        return Err(CallError(format!("`{NAME}` expects at most {BYTES_MAX} bytes")));
    }
    let bytes = match is_pem(encoded.as_bytes()) {
        true => encoded.as_bytes().to_vec(),
        false => base64(encoded).ok_or_else(|| wrong("neither PEM nor base64"))?,
    };
    let mut certificates = Vec::new();
    if is_pem(&bytes) {
        for block in Pem::iter_from_buffer(&bytes) {
            let block = block.map_err(|_| wrong("invalid PEM"))?;
            if block.label != "CERTIFICATE" {
                return Err(wrong("PEM of something else"));
            }
            read(&block.contents, &mut certificates)?;
        }
        if certificates.is_empty() {
            return Err(wrong("PEM without a certificate"));
        }
    } else {
        read(&bytes, &mut certificates)?;
    }
    Ok(Value::from(certificates))
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"-----BEGIN")
}

fn wrong(what: &str) -> CallError {
    CallError(format!("`{NAME}` got {what}"))
}

/// Reads certificates one behind the other.
fn read(mut der: &[u8], certificates: &mut Vec<Value>) -> Result<(), CallError> {
    while !der.is_empty() {
        if certificates.len() == CERTIFICATES_MAX {
            return Err(wrong(&format!("more than {CERTIFICATES_MAX} certificates")));
        }
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| wrong("an invalid certificate"))?;
        certificates.push(show(&certificate)?);
        der = rest;
    }
    Ok(())
}

fn show(certificate: &X509Certificate<'_>) -> Result<Value, CallError> {
    // An extension that occurs twice or cannot be read makes the certificate invalid, as in Go.
    certificate.extensions_map().map_err(|_| wrong("a certificate with an extension twice"))?;
    let mut names = Names::default();
    let (mut key_usage, mut usages, mut unknown_usages) = (0, Vec::new(), Vec::new());
    let (mut constrained, mut is_ca, mut path_length) = (false, false, 0);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(san) => names.read(&san.general_names)?,
            ParsedExtension::KeyUsage(usage) => key_usage = usage.flags,
            ParsedExtension::ExtendedKeyUsage(usage) => (usages, unknown_usages) = extended(usage)?,
            ParsedExtension::BasicConstraints(constraints) => {
                (constrained, is_ca) = (true, constraints.ca);
                path_length = constraints.path_len_constraint.map_or(-1, i64::from);
            }
            ParsedExtension::ParseError { .. } => {
                return Err(wrong("a certificate with an invalid extension"));
            }
            _ => {}
        }
    }
    let serial = &certificate.tbs_certificate.serial;
    if certificate.raw_serial().first().is_some_and(|first| first & 0x80 != 0) {
        return Err(wrong("a certificate with a negative serial number"));
    }
    let serial =
        Value::from_numeric_string(&serial.to_string()).map_err(|_| wrong("an invalid serial number"))?;
    let validity = certificate.validity();
    Ok(object([
        ("BasicConstraintsValid", Value::Bool(constrained)),
        ("DNSNames", list(names.dns)),
        ("EmailAddresses", list(names.email)),
        ("ExtKeyUsage", list(usages)),
        ("IPAddresses", list(names.ip)),
        ("IsCA", Value::Bool(is_ca)),
        ("Issuer", name(certificate.issuer())?),
        ("KeyUsage", Value::from(u64::from(key_usage))),
        ("MaxPathLen", Value::from(path_length)),
        ("MaxPathLenZero", Value::Bool(constrained && path_length == 0)),
        ("NotAfter", time(&validity.not_after)),
        ("NotBefore", time(&validity.not_before)),
        ("SerialNumber", serial),
        ("Subject", name(certificate.subject())?),
        ("URIStrings", list(names.uri)),
        ("UnknownExtKeyUsage", list(unknown_usages)),
        ("Version", Value::from(u64::from(certificate.version().0) + 1)),
    ]))
}

/// Subject alternative names by kind.
#[derive(Default)]
struct Names {
    dns: Vec<Value>,
    email: Vec<Value>,
    ip: Vec<Value>,
    uri: Vec<Value>,
}

impl Names {
    fn read(&mut self, names: &[GeneralName<'_>]) -> Result<(), CallError> {
        for name in names {
            match name {
                GeneralName::DNSName(name) => self.dns.push(ascii(name)?),
                GeneralName::RFC822Name(name) => self.email.push(ascii(name)?),
                GeneralName::URI(name) => self.uri.push(ascii(name)?),
                GeneralName::IPAddress(bytes) => self.ip.push(Value::from(address(bytes)?.to_string())),
                GeneralName::Invalid(..) => return Err(wrong("a certificate with an invalid name")),
                _ => {}
            }
        }
        Ok(())
    }
}

fn ascii(name: &str) -> Result<Value, CallError> {
    if name.is_ascii() { Ok(Value::from(name)) } else { Err(wrong("a certificate with an invalid name")) }
}

fn address(bytes: &[u8]) -> Result<IpAddr, CallError> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(bytes).into());
    }
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| wrong("a certificate with an invalid address"))?;
    Ok(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
}

/// Purposes by Go's numbers, and those that it has no number for.
fn extended(usage: &ExtendedKeyUsage<'_>) -> Result<(Vec<Value>, Vec<Value>), CallError> {
    let known = [
        (usage.any, 0_u64),
        (usage.server_auth, 1),
        (usage.client_auth, 2),
        (usage.code_signing, 3),
        (usage.email_protection, 4),
        (usage.time_stamping, 8),
        (usage.ocsp_signing, 9),
    ];
    let known =
        known.into_iter().filter(|(is_set, _)| *is_set).map(|(_, number)| Value::from(number)).collect();
    let mut unknown = Vec::new();
    for oid in &usage.other {
        let arcs = oid.iter().ok_or_else(|| wrong("a certificate with an invalid purpose"))?;
        unknown.push(Value::from(arcs.map(Value::from).collect::<Vec<_>>()));
    }
    Ok((known, unknown))
}

fn name(name: &X509Name<'_>) -> Result<Value, CallError> {
    let mut common_name = Value::from("");
    let mut serial_number = Value::from("");
    let mut lists: [(&str, &str, Vec<Value>); 7] = [
        ("2.5.4.6", "Country", Vec::new()),
        ("2.5.4.7", "Locality", Vec::new()),
        ("2.5.4.8", "Province", Vec::new()),
        ("2.5.4.9", "StreetAddress", Vec::new()),
        ("2.5.4.10", "Organization", Vec::new()),
        ("2.5.4.11", "OrganizationalUnit", Vec::new()),
        ("2.5.4.17", "PostalCode", Vec::new()),
    ];
    for attribute in name.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        let is_kept =
            matches!(oid.as_str(), "2.5.4.3" | "2.5.4.5") || lists.iter().any(|(listed, ..)| *listed == oid);
        if !is_kept {
            continue;
        }
        let value = attribute.as_str().map_err(|_| wrong("a certificate with an unreadable name"))?;
        match oid.as_str() {
            // Of several, Go keeps the last.
            "2.5.4.3" => common_name = Value::from(value),
            "2.5.4.5" => serial_number = Value::from(value),
            oid => {
                if let Some((.., values)) = lists.iter_mut().find(|(listed, ..)| *listed == oid) {
                    values.push(Value::from(value));
                }
            }
        }
    }
    let fields = lists.into_iter().map(|(_, name, values)| (name, list(values)));
    Ok(object(fields.chain([("CommonName", common_name), ("SerialNumber", serial_number)])))
}

/// A list, `null` without items as Go writes it.
fn list(items: Vec<Value>) -> Value {
    if items.is_empty() { Value::Null } else { Value::from(items) }
}

fn object<'n>(fields: impl IntoIterator<Item = (&'n str, Value)>) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (Value::from(name), value));
    Value::from(fields.collect::<BTreeMap<_, _>>())
}

fn time(time: &ASN1Time) -> Value {
    let time = time.to_datetime();
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    Value::from(format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month)))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    };
    use rcgen::{SanType, string::Ia5String};

    use super::*;

    fn certificate() -> rcgen::Certificate {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "client");
        params.distinguished_name.push(DnType::OrganizationalUnitName, "Engineering");
        params.subject_alt_names.extend([
            SanType::URI(Ia5String::try_from("spiffe://example.com/a").unwrap()),
            SanType::Rfc822Name(Ia5String::try_from("x@y.z").unwrap()),
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
            SanType::IpAddress("::ffff:10.0.0.2".parse().unwrap()),
        ]);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::Other(vec![1, 2, 3, 4])];
        params.serial_number = Some(vec![1, 0, 0, 0, 0, 0, 0, 0, 0].into());
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2027, 1, 2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    fn parse(encoded: &str) -> Result<Value, CallError> {
        parse_certificates(&[Value::from(encoded)])
    }

    #[test]
    fn fields_are_those_of_go() {
        let parsed = parse(&certificate().pem()).unwrap();
        let shown = serde_json::from_str::<serde_json::Value>(&parsed[0].to_string()).unwrap();
        for (field, expected) in [
            ("DNSNames", serde_json::json!(["a.example"])),
            ("EmailAddresses", serde_json::json!(["x@y.z"])),
            ("IPAddresses", serde_json::json!(["10.0.0.1", "10.0.0.2"])),
            ("URIStrings", serde_json::json!(["spiffe://example.com/a"])),
            ("IsCA", true.into()),
            ("BasicConstraintsValid", true.into()),
            ("MaxPathLen", 0.into()),
            ("MaxPathLenZero", true.into()),
            ("KeyUsage", 33.into()),
            ("ExtKeyUsage", serde_json::json!([2])),
            ("UnknownExtKeyUsage", serde_json::json!([[1, 2, 3, 4]])),
            ("NotBefore", "2026-01-02T00:00:00Z".into()),
            ("NotAfter", "2027-01-02T00:00:00Z".into()),
            ("Version", 3.into()),
        ] {
            assert_eq!(shown[field], expected, "{field}");
        }
        // Exact, although no float is.
        let number = |digits: &str| Value::from_numeric_string(digits).unwrap();
        assert_eq!(parsed[0]["SerialNumber"], number("18446744073709551616"));
        assert_ne!(parsed[0]["SerialNumber"], number("18446744073709551617"));
        assert_eq!(shown["Subject"]["CommonName"], "client");
        assert_eq!(shown["Issuer"]["OrganizationalUnit"], serde_json::json!(["Engineering"]));
        assert_eq!(shown["Subject"]["Locality"], serde_json::Value::Null);
        assert!(OMITTED.iter().all(|omitted| shown.get(*omitted).is_none()));
    }

    #[test]
    fn pem_and_base64_are_read_and_nothing_else() {
        let pem = certificate().pem();
        let count = |encoded: &str| parse(encoded).map(|parsed| parsed.as_array().unwrap().len());
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(count(&pem), Ok(1));
        assert_eq!(count(&pem.repeat(2)), Ok(2));
        assert_eq!(count(&der), Ok(1));
        assert_eq!(count(""), Ok(0));
        for encoded in
            ["x", "AAAA", &der[..der.len() - 4], &pem.replace("CERTIFICATE", "PRIVATE KEY"), "-----BEGIN"]
        {
            assert!(count(encoded).is_err(), "{encoded}");
        }
        assert!(parse_certificates(&[Value::from(5)]).is_err());
    }

    #[test]
    fn size_and_number_are_bounded() {
        let pem = certificate().pem();
        assert!(parse(&pem.repeat(CERTIFICATES_MAX)).is_ok());
        assert!(
            parse(&pem.repeat(CERTIFICATES_MAX + 1)).unwrap_err().0.contains("more than 16 certificates")
        );
        assert!(parse(&" ".repeat(BYTES_MAX + 1)).unwrap_err().0.contains("at most 65536 bytes"));
    }
}
