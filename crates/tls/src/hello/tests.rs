use std::sync::Arc;

use rustls::client::ClientConnection;

use super::*;
use crate::testing::{HOST, Noise, Pki};

fn hello_bytes(name: &str, alpn: &[&[u8]]) -> Vec<u8> {
    let mut config = Pki::new().client_config(None);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[track_caller]
fn refused(bytes: &[u8]) -> HandshakeFailure {
    *HelloReader::new().feed(bytes).expect_err("must be refused")
}

#[test]
fn name_and_protocols_are_read() {
    let hello =
        HelloReader::new().feed(&hello_bytes("API.Example.com", &[b"h2", b"http/1.1"])).unwrap().unwrap();
    assert_eq!(hello.server_name.as_deref(), Some("api.example.com"));
    assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    let hello = HelloReader::new().feed(&hello_bytes("192.0.2.1", &[])).unwrap().unwrap();
    assert_eq!(hello, ClientHello { server_name: None, alpn: vec![], in_one_record: true });
}

#[test]
fn a_hello_may_be_cut_anywhere() {
    let bytes = hello_bytes(HOST, &[b"http/1.1"]);
    let whole = HelloReader::new().feed(&bytes).unwrap().unwrap();
    for cut in 0..bytes.len() {
        let mut reader = HelloReader::new();
        assert_eq!(reader.feed(&bytes[..cut]).unwrap(), None, "cut at {cut}");
        assert_eq!(reader.feed(&bytes[cut..]).unwrap().as_ref(), Some(&whole), "cut at {cut}");
    }
    let mut reader = HelloReader::new();
    let answers: Vec<_> = bytes.iter().map(|byte| reader.feed(&[*byte]).unwrap()).collect();
    assert!(answers[..bytes.len() - 1].iter().all(Option::is_none));
    assert_eq!(answers.last().unwrap().as_ref(), Some(&whole));
}

#[test]
fn bytes_after_the_hello_do_not_disturb() {
    let mut bytes = hello_bytes(HOST, &[]);
    bytes.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
    assert_eq!(HelloReader::new().feed(&bytes).unwrap().unwrap().server_name.as_deref(), Some(HOST));
}

#[test]
fn plain_http_is_recognised_at_any_cut() {
    for request in ["GET / HTTP/1.1\r\n", "POST /x", "OPTIONS *", "CONNECT a:1", "PRI * HTTP/2.0\r\n"] {
        let failure = refused(request.as_bytes());
        assert_eq!(failure.reason, HandshakeReason::PlainHttp);
        assert!(failure.alert.is_empty(), "HTTP has no use for a TLS alert");
        let mut reader = HelloReader::new();
        let method = request.split(' ').next().unwrap();
        for letter in method.bytes() {
            assert_eq!(reader.feed(&[letter]).unwrap(), None);
        }
        assert_eq!(reader.feed(b" ").unwrap_err().reason, HandshakeReason::PlainHttp);
    }
}

#[test]
fn anything_else_is_malformed_and_gets_an_alert() {
    for bytes in [&b"SSH-2.0-OpenSSH"[..], b"GETX", b"XGET /", &[0xff; 20], &[22, 3, 1, 0, 4, 1, 0, 0, 0]] {
        let failure = refused(bytes);
        assert_eq!(failure.reason, HandshakeReason::Malformed, "{bytes:?}: {failure}");
        assert!(matches!(failure.alert[..], [21, 3, _, 0, 2, 2, _]), "{:?}", failure.alert);
    }
}

#[test]
fn clients_of_old_versions_are_told_apart() {
    // A TLS 1.0 ClientHello: one suite, no compression, no extensions.
    let mut body = vec![3, 1];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0, 0x2f, 1, 0]);
    let mut bytes = vec![22, 3, 1, 0, (body.len() + 4) as u8, 1, 0, 0, body.len() as u8];
    bytes.extend(body);
    assert_eq!(refused(&bytes).reason, HandshakeReason::NoCommonVersion);
}

#[test]
fn size_is_bounded_however_it_is_cut() {
    // A ClientHello that announces 60 000 bytes, one byte in each record: six bytes on the wire for each.
    let mut message = vec![1, 0, 0xea, 0x60];
    message.resize(60_000, 0);
    let wire: Vec<u8> = message.iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
    let mut reader = HelloReader::new();
    let (within, beyond) = wire.split_at(CLIENT_HELLO_BYTES_MAX);
    for part in within.chunks(1000) {
        assert_eq!(reader.feed(part).unwrap(), None);
    }
    let failure = reader.feed(&beyond[..1]).unwrap_err();
    assert_eq!(failure.reason, HandshakeReason::Malformed);
    assert!(failure.message.contains("within 65535"), "{failure}");
    assert!(!failure.alert.is_empty());
}

#[test]
fn refused_names_carry_their_alerts() {
    let failure = HandshakeFailure::unknown_server_name("x.example.com");
    assert_eq!(failure.alert, [21, 3, 3, 0, 2, 2, 112]);
    assert!(failure.to_string().contains("`x.example.com`"));
    for (alert, expected) in [
        (failure.alert, rustls::AlertDescription::UnrecognisedName),
        (HandshakeFailure::missing_server_name().alert, rustls::AlertDescription::MissingExtension),
    ] {
        let pki = Pki::new();
        let name = HOST.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(pki.client_config(None)), name).unwrap();
        client.read_tls(&mut &alert[..]).unwrap();
        assert_eq!(client.process_new_packets().unwrap_err(), rustls::Error::AlertReceived(expected));
    }
}

#[test]
fn noise_never_panics() {
    let mut noise = Noise(1);
    let hello = hello_bytes(HOST, &[b"http/1.1"]);
    for round in 0..3000 {
        let mut bytes = match round % 3 {
            0 => {
                let length = noise.below(200);
                noise.bytes(length)
            }
            _ => hello.clone(),
        };
        for _ in 0..noise.below(4) {
            if !bytes.is_empty() {
                let position = noise.below(bytes.len());
                bytes[position] = noise.next() as u8;
            }
        }
        let mut reader = HelloReader::new();
        let cut = noise.below(bytes.len() + 1);
        if let Ok(None) = reader.feed(&bytes[..cut]) {
            let _ = reader.feed(&bytes[cut..]);
        }
        // A reader that has answered says so, whatever comes.
        let _ = reader.feed(&hello);
    }
}
