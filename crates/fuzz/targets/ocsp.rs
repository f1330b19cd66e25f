//! OCSP responses: any bytes yield an answer or an error. Nothing is believed that neither the issuer nor a responder of its
//! choice has signed, and what they have signed must be about the certificate, and current.
//!
//! The input has parts, each preceded by its length in two octets: an answer without its signature (a ResponseData), which is
//! signed here, and the certificates that go with it; without any, the issuer signs, else the responder. Behind a first octet of
//! `*` it is a whole response instead.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ringward_fuzz::{Signer, content, now_unix, pack, signed_part, unpack};
use ringward_testkit::{Authority, Leaf, OcspAnswer, RevocationReason, der};
use ringward_tls::ocsp::{OcspCheck, verify_response};
use ringward_tls::{CLOCK_SKEW_SECONDS, IssuerCertificate, OcspError, OcspResponse, Serial};

fuzz_target!(|input: &[u8]| {
    let world = &*WORLD;
    if let [b'*', whole @ ..] = input {
        if let Ok(answer) = verify(world, whole) {
            let signed = world.answers.iter().any(|tbs| whole.windows(tbs.len()).any(|part| part == tbs));
            assert!(signed, "believed without a signature: {answer:?}");
        }
        return;
    }
    let parts = unpack(input);
    let (answer, certificates) =
        (parts.first().copied().unwrap_or_default(), parts.get(1).copied().unwrap_or_default());
    let signer = if certificates.is_empty() { &world.issuer_signs } else { &world.responder_signs };
    let [algorithm, signature] = signer.sign(answer);
    let mut fields = vec![answer.to_vec(), algorithm, signature];
    if !certificates.is_empty() {
        fields.push(der::context(0, &der::tlv(0x30, certificates)));
    }
    match verify(world, &enclosed(&der::sequence(&fields))) {
        Ok(answer) => {
            let now = now_unix();
            assert!(
                answer.this_update_unix <= now + CLOCK_SKEW_SECONDS && now < answer.until_unix,
                "{answer:?}"
            );
            assert!(answer.next_update_unix.is_none_or(|next| next == answer.until_unix), "{answer:?}");
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "one line: {error}"),
    }
});

// Random bytes are no answer, so the search starts from real ones.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if size > 4 {
        return fuzzer_mutate(data, size, max_size);
    }
    let starts = &WORLD.starts;
    let start = &starts[seed as usize % starts.len()];
    if start.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..start.len()].copy_from_slice(start);
    start.len()
});

fn verify(world: &World, response: &[u8]) -> Result<OcspResponse, OcspError> {
    let check = OcspCheck {
        issuer: &world.issuer,
        serial: world.serial,
        nonce: None,
        now_unix: now_unix(),
        revocation: None,
    };
    verify_response(response, &check)
}

/// An OCSPResponse around a BasicOCSPResponse (RFC 6960 §4.2.1).
fn enclosed(basic: &[u8]) -> Vec<u8> {
    let bytes = der::sequence(&[der::oid("1.3.6.1.5.5.7.48.1.1"), der::octets(basic)]);
    der::sequence(&[der::enumerated(0), der::context(0, &bytes)])
}

struct World {
    issuer: IssuerCertificate,
    serial: Serial,
    issuer_signs: Signer,
    responder_signs: Signer,
    /// What they have signed themselves.
    answers: Vec<Vec<u8>>,
    starts: Vec<Vec<u8>>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let authority = Authority::root("Fuzz CA");
    let client = authority.issue(&Leaf::client("client"));
    let responder = authority.issue(&Leaf::ocsp_signer("responder"));
    let by_issuer = [
        OcspAnswer::good(&client, &authority),
        OcspAnswer::revoked(&client, &authority, RevocationReason::KeyCompromise).by_key(),
        OcspAnswer::unknown(&client, &authority).sha256(),
        OcspAnswer::good(&client, &authority).after(&OcspAnswer::good(&responder, &authority)),
    ];
    let wholes: Vec<_> = by_issuer
        .iter()
        .map(|answer| answer.signed_by_authority(&authority))
        .chain([OcspAnswer::good(&client, &authority).signed_by(&responder)])
        .collect();
    let answers: Vec<_> = wholes.iter().map(|whole| response_data(whole).to_vec()).collect();
    let certificate = responder.leaf().as_ref();
    let starts = answers.iter().enumerate().map(|(index, answer)| {
        let certificates = if index < by_issuer.len() { &[][..] } else { certificate };
        pack([&answer[..], certificates].into_iter())
    });
    World {
        starts: starts.chain(wholes.iter().map(|whole| [b"*", &whole[..]].concat())).collect(),
        answers,
        issuer: IssuerCertificate::from_der(authority.certificate()).expect("an authority"),
        serial: Serial::new(client.serial()).expect("a serial number that is right"),
        issuer_signs: Signer::of(&authority),
        responder_signs: Signer::with_key(&responder.key()),
    }
});

/// The part of a response that is signed: that of the octets within.
fn response_data(whole: &[u8]) -> &[u8] {
    let kind = der::oid("1.3.6.1.5.5.7.48.1.1");
    let at = whole.windows(kind.len()).position(|window| window == kind).expect("a basic response");
    signed_part(content(&whole[at + kind.len()..]))
}
