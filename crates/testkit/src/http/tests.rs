use super::*;

fn read(input: &[u8]) -> Result<(Response, Vec<u8>), MessageError> {
    let mut body = Vec::new();
    let response = Incoming::new(input).response(true, &mut |part| body.extend_from_slice(part))?;
    Ok((response, body))
}

#[test]
fn reads_each_framing() {
    let table: &[(&str, &str, bool)] = &[
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP", "hello", true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            "hello",
            true,
        ),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello", "hello", false),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", true),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", "", true),
        ("HTTP/1.1 200 \r\ncontent-length: 0\r\nconnection: Foo, Close\r\n\r\n", "", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", "", false),
    ];
    for (input, expected, keeps_alive) in table {
        let (response, body) = read(input.as_bytes()).unwrap();
        assert_eq!(body, expected.as_bytes(), "{input}");
        assert_eq!(response.body_bytes, expected.len() as u64);
        assert_eq!(response.keeps_alive(), *keeps_alive, "{input}");
    }
}

#[test]
fn reads_trailers_interim_responses_and_pipelines() {
    let input = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n\
        HTTP/1.1 201 Made\r\ntransfer-encoding: chunked\r\nA: 1\r\na:\t2 \r\n\r\n0\r\nT: end\r\n\r\n\
        HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    let mut incoming = Incoming::new(input.as_bytes());
    let first = incoming.response(true, &mut |_| {}).unwrap();
    assert_eq!((first.status, first.reason.as_str(), &first.interim[..]), (201, "Made", &[100, 103][..]));
    assert_eq!(first.headers.all("a"), ["1", "2"]);
    assert_eq!(first.trailers.get("t"), Some("end"));
    assert!(first.headers.contains("TRANSFER-ENCODING") && !first.headers.contains("t"));
    assert_eq!(incoming.response(true, &mut |_| {}).unwrap().status, 404);
    assert!(matches!(incoming.response(true, &mut |_| {}), Err(MessageError::Ended(_))));
}

#[test]
fn a_head_response_has_no_body() {
    let input = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let mut incoming = Incoming::new(&input[..]);
    let response = incoming.response(false, &mut |_| {}).unwrap();
    assert_eq!((response.headers.get("content-length"), response.body_bytes), (Some("5"), 0));
    assert_eq!(incoming.response(false, &mut |_| {}).unwrap().status, 200);
}

#[test]
fn refuses_what_is_not_exactly_right() {
    for input in [
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\n a: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\na\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\nc: d\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\rc\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\na",
        "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n 1\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    ] {
        assert!(matches!(read(input.as_bytes()), Err(MessageError::Malformed(_))), "{input}");
    }
}

#[test]
fn a_cut_message_is_an_error_wherever_it_is_cut() {
    let input = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nt: x\r\n\r\n";
    for cut in 0..input.len() {
        assert!(matches!(read(&input[..cut]), Err(MessageError::Ended(_))), "cut at {cut}");
    }
    assert!(read(input).is_ok());
}

#[test]
#[should_panic(expected = "occurs 2 times")]
fn one_value_is_not_mistaken_for_two() {
    let (response, _) = read(b"HTTP/1.1 204 x\r\na: 1\r\nA: 2\r\n\r\n").unwrap();
    response.headers.get("a");
}
