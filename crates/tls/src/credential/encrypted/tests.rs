use std::time::{Duration, Instant};

use ringward_testkit::{Authority, Issued, KeyForm, KeyType, Leaf, der, openssl};

use super::*;
use crate::testing::Noise;

const PASSPHRASE: &[u8] = b"correct horse";

fn issued() -> Issued {
    Authority::root("Root").issue(&Leaf::server("a").key(KeyType::Rsa2048))
}

/// The content of the one PEM section.
fn contents(pem: &str) -> Vec<u8> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents
}

/// What OpenSSL makes of a key by `openssl pkcs8 -topk8` with these options.
fn encrypted(issued: &Issued, options: &[&str]) -> Vec<u8> {
    let arguments = ["pkcs8", "-topk8", "-passout", "pass:correct horse"].iter().chain(options);
    contents(&String::from_utf8(openssl(arguments, issued.key_pem().as_bytes())).unwrap())
}

#[test]
fn what_openssl_writes_is_opened() {
    let issued = issued();
    let plain = contents(&issued.key_pem());
    for options in [
        &[][..],
        &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"],
        &["-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA384"],
        &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512", "-iter", "1"],
        &["-v2", "aes-256-cbc", "-iter", "100000"],
        &["-scrypt", "-v2", "aes-128-cbc"],
        &["-scrypt", "-scrypt_N", "1024", "-scrypt_r", "4", "-scrypt_p", "3"],
    ] {
        let der = encrypted(&issued, options);
        assert_eq!(open(&der, PASSPHRASE).as_deref(), Ok(&plain), "{options:?}");
        assert_eq!(open(&der, b"correct hors"), Err(OpenError::Passphrase), "{options:?}");
    }
}

#[test]
fn a_wrong_passphrase_never_yields_a_key() {
    let der = encrypted(&issued(), &["-iter", "1"]);
    // Some hundred of them end like a padding.
    for number in 0..30_000_u32 {
        assert_eq!(open(&der, &number.to_be_bytes()), Err(OpenError::Passphrase), "{number}");
    }
}

#[test]
fn what_is_not_opened_is_named() {
    let issued = issued();
    let scheme = |oid: &str| Err(OpenError::Scheme(oid.to_owned()));
    let pbes1 = contents(&issued.key_pem_as(KeyForm::Pbes1, PASSPHRASE));
    assert_eq!(open(&pbes1, PASSPHRASE), scheme("1.2.840.113549.1.12.1.3"));
    let des = encrypted(&issued, &["-v2", "des3"]);
    assert_eq!(open(&des, PASSPHRASE), scheme("1.2.840.113549.3.7"));
    let sha224 = encrypted(&issued, &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA224"]);
    assert_eq!(open(&sha224, PASSPHRASE), scheme("1.2.840.113549.2.8"));
    let unknown = key_info(&derivation("1.2.3", &[der::octets(b"salt")]), AES_256_CBC, &[0; 16], &[0; 32]);
    assert_eq!(open(&unknown, PASSPHRASE), scheme("1.2.3"));
}

const AES_256_CBC: &str = "2.16.840.1.101.3.4.1.42";
const PBKDF2_NAME: &str = "1.2.840.113549.1.5.12";
const SCRYPT_NAME: &str = "1.3.6.1.4.1.11591.4.11";

fn number(value: u64) -> Vec<u8> {
    der::integer(&value.to_be_bytes())
}

fn derivation(kind: &str, parameters: &[Vec<u8>]) -> Vec<u8> {
    der::sequence(&[der::oid(kind), der::sequence(parameters)])
}

fn pbkdf2_of(iterations: u64) -> Vec<u8> {
    derivation(PBKDF2_NAME, &[der::octets(b"salt"), number(iterations)])
}

fn scrypt_of(n: u64, r: u64, p: u64) -> Vec<u8> {
    derivation(SCRYPT_NAME, &[der::octets(b"salt"), number(n), number(r), number(p)])
}

fn key_info(derivation: &[u8], cipher: &str, iv: &[u8], text: &[u8]) -> Vec<u8> {
    let cipher = der::sequence(&[der::oid(cipher), der::octets(iv)]);
    let parameters = der::sequence(&[derivation.to_vec(), cipher]);
    let scheme = der::sequence(&[der::oid("1.2.840.113549.1.5.13"), parameters]);
    der::sequence(&[scheme, der::octets(text)])
}

/// How a file with this derivation is answered.
fn opening(derivation: &[u8]) -> Result<(), OpenError> {
    open(&key_info(derivation, AES_256_CBC, &[0; 16], &[0; 32]), PASSPHRASE).map(drop)
}

/// Whether the parameters are accepted, without computing anything.
fn accepted(derivation: &[u8]) -> Result<(), OpenError> {
    let (kind, parameters) = Fields(derivation).algorithm().unwrap();
    Derivation::read(&kind, parameters, 32).map(drop)
}

#[test]
fn cost_is_limited() {
    let cost = |what, value, max| Err(OpenError::Cost { what, value, max });
    let iterations = |value| cost("PBKDF2 iterations", value, PBKDF2_ITERATIONS_MAX);
    assert_eq!(accepted(&pbkdf2_of(2_000_000)), Ok(()));
    assert_eq!(accepted(&pbkdf2_of(2_000_001)), iterations(2_000_001));

    let memory = |value| cost("bytes of memory for scrypt", value, SCRYPT_MEMORY_MAX);
    let blocks = |value| cost("blocks of scrypt", value, SCRYPT_BLOCKS_MAX);
    assert_eq!(accepted(&scrypt_of(1 << 16, 8, 1)), Ok(()), "64 MiB");
    assert_eq!(accepted(&scrypt_of(1 << 17, 8, 1)), memory(128 << 20));
    assert_eq!(accepted(&scrypt_of(1 << 16, 9, 1)), memory(72 << 20));
    assert_eq!(accepted(&scrypt_of(1 << 16, 8, 2)), Ok(()), "2^20 blocks");
    assert_eq!(accepted(&scrypt_of(1 << 16, 8, 3)), blocks(3 << 19));
    assert_eq!(accepted(&scrypt_of(1 << 14, 1, 65)), blocks(65 << 14));
}

#[test]
fn a_hostile_file_is_refused_at_once() {
    let start = Instant::now();
    let most = u64::MAX;
    for derivation in [
        pbkdf2_of(u64::from(u32::MAX)),
        pbkdf2_of(most),
        scrypt_of(1 << 62, 1, 1),
        scrypt_of(1 << 20, 1 << 20, 1),
        scrypt_of(2, 1, most),
        scrypt_of(most, most, most),
        derivation(PBKDF2_NAME, &[der::octets(b"salt"), der::integer(&[1; 1000])]),
    ] {
        assert!(matches!(opening(&derivation), Err(OpenError::Cost { .. })));
    }
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[test]
fn malformed_parameters_are_refused() {
    let salt = || der::octets(b"salt");
    let prf = || der::sequence(&[der::oid("1.2.840.113549.2.9"), der::null()]);
    for (what, derivation) in [
        ("no iterations", pbkdf2_of(0)),
        ("negative", derivation(PBKDF2_NAME, &[salt(), vec![0x02, 0x01, 0x80]])),
        ("empty number", derivation(PBKDF2_NAME, &[salt(), vec![0x02, 0x00]])),
        ("other key length", derivation(PBKDF2_NAME, &[salt(), number(1), number(16), prf()])),
        ("more than there should be", derivation(PBKDF2_NAME, &[salt(), number(1), prf(), prf()])),
        ("no salt", derivation(PBKDF2_NAME, &[number(1)])),
        ("no power of two", scrypt_of(1000, 8, 1)),
        ("no cost", scrypt_of(0, 8, 1)),
        ("N too large for r", scrypt_of(1 << 16, 1, 1)),
        ("no blocks", scrypt_of(16, 0, 1)),
        ("no parallelism", scrypt_of(16, 8, 0)),
    ] {
        assert_eq!(opening(&derivation), Err(OpenError::Malformed), "{what}");
    }
    let right = derivation(PBKDF2_NAME, &[salt(), number(1), number(32), prf()]);
    assert_eq!(opening(&right), Err(OpenError::Passphrase), "all of it is right but the text");
    for (iv, text) in [(&[0; 15][..], &[0; 32][..]), (&[0; 17], &[0; 32])] {
        let info = key_info(&right, AES_256_CBC, iv, text);
        assert_eq!(open(&info, PASSPHRASE), Err(OpenError::Malformed));
    }
    for text in [&[][..], &[0; 15], &[0; 17]] {
        let info = key_info(&right, AES_256_CBC, &[0; 16], text);
        assert_eq!(open(&info, PASSPHRASE), Err(OpenError::Passphrase));
    }
}

#[test]
fn damaged_files_are_refused_without_harm() {
    let der = encrypted(&issued(), &["-iter", "1"]);
    for length in 0..der.len() {
        assert!(open(&der[..length], PASSPHRASE).is_err(), "cut at {length}");
    }
    let mut noise = Noise(7);
    // Beyond its first 130 bytes there is the text alone.
    for _ in 0..5000 {
        let mut damaged = der.clone();
        damaged[noise.below(130)] ^= 1 << noise.below(8);
        let start = Instant::now();
        // A changed salt or count of iterations can only make it the wrong key. What the padding does not see, the
        // check of the key against the certificate does.
        let _ = open(&damaged, PASSPHRASE);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn fields_are_of_the_kind_that_is_expected_and_numbers_of_any_size() {
    let text = der::utf8("a");
    assert_eq!(Fields(&text).take(Tag::OctetString), Err(OpenError::Malformed));
    let context = der::context_primitive(4, b"a");
    assert_eq!(Fields(&context).take(Tag::OctetString), Err(OpenError::Malformed));
    let huge = der::integer(&[1, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(Fields(&huge).natural(), Ok(u64::MAX), "and not what is left of it in eight octets");
}
