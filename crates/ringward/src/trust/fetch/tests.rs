use std::sync::atomic::Ordering;
use std::time::Instant;

use ringward_config::HostName;
use ringward_testkit::{Authority, Leaf};
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::reach::AllowList;
use super::*;
use crate::trust::testing::{Server, Step, dead_address, ok, raw, reply};

const LIMITS: FetchLimits = FetchLimits {
    connect_timeout: Duration::from_secs(5),
    idle_timeout: Duration::from_secs(5),
    total_timeout: Duration::from_secs(20),
    requests_max: 4,
    requests_per_server_max: 2,
};
const BYTES_MAX: u64 = 1000;

fn fetcher(limits: FetchLimits) -> Fetcher {
    Fetcher::new(limits)
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn listed(hosts: &[&str]) -> Reach {
    let hosts: Vec<HostName> = hosts.iter().map(|host| HostName::parse(host).unwrap()).collect();
    Reach::Listed(Arc::new(AllowList::new(&hosts)))
}

async fn get(fetcher: &Fetcher, text: &str) -> Result<Fetched, FetchError> {
    fetcher.fetch(&url(text), &Reach::Configured, Ask::Get(&Validators::default()), BYTES_MAX).await
}

fn body(fetched: Result<Fetched, FetchError>) -> Vec<u8> {
    match fetched {
        Ok(Fetched::Fresh { body, .. }) => body.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_body_is_fetched() {
    let server = Server::start(|_| ok(b"a list")).await;
    assert_eq!(body(get(&fetcher(LIMITS), &server.url("/ca.crl?x")).await), b"a list");
    let asked = &server.asked()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/ca.crl?x"));
    assert_eq!(asked.field("host"), Some(server.address.to_string().as_str()));
    for absent in ["cookie", "authorization", "if-none-match", "if-modified-since", "accept-encoding"] {
        assert_eq!(asked.field(absent), None);
    }
}

#[tokio::test]
async fn bodies_come_in_every_framing() {
    for answer in [
        "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.0 200 OK\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc",
    ] {
        let server = Server::start(move |_| raw(answer)).await;
        assert_eq!(body(get(&fetcher(LIMITS), &server.url("/")).await), b"abc", "{answer}");
    }
}

#[tokio::test]
async fn a_post_carries_its_body() {
    let server = Server::start(|asked| ok(&asked.body)).await;
    let query = Bytes::from_static(b"\0query");
    let ask = Ask::Post { content_type: "application/ocsp-request", body: &query };
    let fetched = fetcher(LIMITS).fetch(&url(&server.url("/")), &Reach::Configured, ask, BYTES_MAX).await;
    assert_eq!(body(fetched), b"\0query");
    assert_eq!(server.asked()[0].field("content-type"), Some("application/ocsp-request"));
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let fields = "ETag: \"7\"\r\nLast-Modified: Sun, 22 Nov 2026 00:00:00 GMT\r\n";
    let server = Server::start(move |asked| match asked.field("if-none-match") {
        Some("\"7\"") => reply("304 Not Modified", "", b""),
        _ => reply("200 OK", fields, b"list"),
    })
    .await;
    let (fetcher, url) = (fetcher(LIMITS), url(&server.url("/")));
    let first = fetcher.fetch(&url, &Reach::Configured, Ask::Get(&Validators::default()), BYTES_MAX).await;
    let Ok(Fetched::Fresh { validators, .. }) = first else { panic!("{first:?}") };
    let second = fetcher.fetch(&url, &Reach::Configured, Ask::Get(&validators), BYTES_MAX).await;
    assert!(matches!(second, Ok(Fetched::NotModified)), "{second:?}");
    assert_eq!(server.asked()[1].field("if-modified-since"), Some("Sun, 22 Nov 2026 00:00:00 GMT"));
}

#[tokio::test]
async fn not_modified_is_no_answer_to_who_has_nothing() {
    let server = Server::start(|_| reply("304 Not Modified", "", b"")).await;
    let result = get(&fetcher(LIMITS), &server.url("/")).await;
    assert!(matches!(result, Err(FetchError::Status { status: 304, .. })), "{result:?}");
}

#[tokio::test]
async fn validators_that_are_too_long_are_forgotten() {
    for (length, kept) in [(VALIDATOR_BYTES_MAX, true), (VALIDATOR_BYTES_MAX + 1, false)] {
        let field = format!("ETag: {}\r\n", "x".repeat(length));
        let server = Server::start(move |_| reply("200 OK", &field, b"")).await;
        let result = get(&fetcher(LIMITS), &server.url("/")).await;
        let Ok(Fetched::Fresh { validators, .. }) = result else { panic!("{result:?}") };
        assert_eq!(validators.etag.is_some(), kept);
    }
}

#[tokio::test]
async fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
    let announced = |length: usize| ok(&vec![b'x'; length]);
    let lying = |length: usize| {
        let mut answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        answer.extend(vec![b'x'; length]);
        vec![Step::Send(answer)]
    };
    for way in [&announced as &(dyn Fn(usize) -> Vec<Step> + Send + Sync), &lying] {
        let (fits, larger) = (way(1000), way(1001));
        let steps = Mutex::new(vec![larger, fits]);
        let server = Server::start(move |_| steps.lock().unwrap().pop().unwrap()).await;
        let fetcher = fetcher(LIMITS);
        assert_eq!(body(get(&fetcher, &server.url("/")).await).len(), 1000);
        let result = get(&fetcher, &server.url("/")).await;
        assert!(matches!(result, Err(FetchError::TooLarge { bytes_max: 1000, .. })), "{result:?}");
    }
}

#[tokio::test]
async fn an_announced_body_that_is_too_large_is_not_waited_for() {
    let huge = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
    let server = Server::start(move |_| vec![Step::Send(huge.into()), Step::Silence]).await;
    let result = get(&fetcher(LIMITS), &server.url("/")).await;
    assert!(matches!(result, Err(FetchError::TooLarge { .. })), "{result:?}");
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_body() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "",
        "nonsense\r\n\r\n",
    ] {
        let server = Server::start(move |_| raw(answer)).await;
        let result = get(&fetcher(LIMITS), &server.url("/")).await;
        assert!(matches!(result, Err(FetchError::Protocol { .. })), "{answer}: {result:?}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let field = format!("X: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
    let server = Server::start(move |_| reply("200 OK", &field, b"")).await;
    let result = get(&fetcher(LIMITS), &server.url("/")).await;
    assert!(matches!(result, Err(FetchError::Protocol { .. })), "{result:?}");
    let many = "X: y\r\n".repeat(FIELDS_MAX + 1);
    let server = Server::start(move |_| reply("200 OK", &many, b"")).await;
    let result = get(&fetcher(LIMITS), &server.url("/")).await;
    assert!(matches!(result, Err(FetchError::Protocol { .. })), "{result:?}");
}

#[tokio::test]
async fn silence_ends_the_wait_at_every_stage() {
    let limits = FetchLimits { idle_timeout: Duration::from_millis(50), ..LIMITS };
    let stages: [(&str, &str); 3] = [
        ("head of the answer", ""),
        ("head of the answer", "HTTP/1.1 200 OK\r\nContent-"),
        ("body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
    ];
    for (expected, sent) in stages {
        let server = Server::start(move |_| vec![Step::Send(sent.into()), Step::Silence]).await;
        match get(&fetcher(limits), &server.url("/")).await {
            Err(FetchError::Timeout { stage, .. }) => assert_eq!(stage, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_trickles_does_not_get_more_than_the_total_time() {
    let limits = FetchLimits { total_timeout: Duration::from_millis(200), ..LIMITS };
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n";
    let server = Server::start(move |_| vec![Step::Send(head.into()), Step::Drip]).await;
    let start = Instant::now();
    let result = get(&fetcher(limits), &server.url("/")).await;
    assert!(matches!(result, Err(FetchError::Timeout { stage: "in all", .. })), "{result:?}");
    assert!(start.elapsed() < LIMITS.idle_timeout);
}

#[tokio::test]
async fn a_dead_server_is_an_error_at_once() {
    let address = dead_address().await;
    let result = get(&fetcher(LIMITS), &format!("http://{address}/")).await;
    assert!(matches!(result, Err(FetchError::Connect { .. })), "{result:?}");
}

#[tokio::test]
async fn a_status_is_an_error_that_says_when_to_come_back() {
    let server = Server::start(|_| reply("503 Busy", "Retry-After: 120\r\n", b"later")).await;
    let error = get(&fetcher(LIMITS), &server.url("/")).await.unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 503, .. }), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(120)));
    let server = Server::start(|_| reply("503 Busy", "Retry-After: 99999999\r\n", b"later")).await;
    let error = get(&fetcher(LIMITS), &server.url("/")).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(RETRY_AFTER_MAX));
    let server = Server::start(|_| reply("204 No Content", "", b"")).await;
    assert!(get(&fetcher(LIMITS), &server.url("/")).await.is_err());
}

#[tokio::test]
async fn redirections_are_followed_on_the_same_server_and_twice() {
    let server = Server::start(|asked| {
        let left: u32 = asked.target.trim_start_matches('/').parse().unwrap();
        match left.checked_sub(1) {
            None => ok(b"there"),
            Some(next) => reply("302 Found", &format!("Location: /{next}\r\n"), b""),
        }
    })
    .await;
    let fetcher = fetcher(LIMITS);
    assert_eq!(body(get(&fetcher, &server.url("/2")).await), b"there");
    let result = get(&fetcher, &server.url("/3")).await;
    assert!(matches!(result, Err(FetchError::Redirect { .. })), "{result:?}");
    // 1 + 2 requests for each.
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn redirections_to_other_servers_are_not_followed() {
    let other = Server::start(|_| ok(b"secret")).await;
    let port = other.address.port();
    for location in [
        other.url("/"),
        format!("http://localhost:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "https://127.0.0.1/".to_owned(),
        "file:///etc/passwd".to_owned(),
        format!("//127.0.0.1:{port}/"),
        format!("http://127.0.0.1@127.0.0.1:{port}/"),
        String::new(),
    ] {
        let fields = format!("Location: {location}\r\n");
        let server = Server::start(move |_| reply("301 Moved", &fields, b"")).await;
        // Even where the other server could be asked directly.
        let reach = listed(&["127.0.0.1", "localhost", "169.254.169.254"]);
        let ask = Ask::Get(&Validators { etag: None, last_modified: None });
        let result = fetcher(LIMITS).fetch(&url(&server.url("/")), &reach, ask, BYTES_MAX).await;
        assert!(matches!(result, Err(FetchError::Redirect { .. })), "{location}: {result:?}");
    }
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn a_post_is_redirected_only_where_it_stays_one() {
    for (status, followed) in
        [("301 Moved", false), ("303 See Other", false), ("307 Temporary", true), ("308 Permanent", true)]
    {
        let server = Server::start(move |asked| match asked.target.as_str() {
            "/" => reply(status, "Location: /next\r\n", b""),
            _ => ok(&asked.body),
        })
        .await;
        let query = Bytes::from_static(b"query");
        let ask = Ask::Post { content_type: "application/ocsp-request", body: &query };
        let result = fetcher(LIMITS).fetch(&url(&server.url("/")), &Reach::Configured, ask, BYTES_MAX).await;
        assert_eq!(result.is_ok(), followed, "{status}: {result:?}");
    }
}

#[tokio::test]
async fn a_certificates_url_reaches_listed_hosts_only() {
    let server = Server::start(|_| ok(b"list")).await;
    let fetcher = fetcher(LIMITS);
    let ask = || Ask::Get(const { &Validators { etag: None, last_modified: None } });
    let by_address = url(&server.url("/"));
    let by_name = url(&format!("http://localhost:{}/", server.address.port()));
    let refused = fetcher.fetch(&by_address, &listed(&["crl.example.com"]), ask(), BYTES_MAX).await;
    assert!(matches!(refused, Err(FetchError::Refused(Refusal::NotListed(_)))), "{refused:?}");
    // A name on the list that leads to this machine: whoever runs the name server would choose what we talk to.
    let refused = fetcher.fetch(&by_name, &listed(&["localhost"]), ask(), BYTES_MAX).await;
    assert!(matches!(refused, Err(FetchError::Refused(Refusal::Private { .. }))), "{refused:?}");
    assert!(server.asked().is_empty());
    for (url, reach) in
        [(&by_address, listed(&["127.0.0.1"])), (&by_name, listed(&["localhost", "127.0.0.1"]))]
    {
        assert!(fetcher.fetch(url, &reach, ask(), BYTES_MAX).await.is_ok(), "{url}");
    }
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_server_has_its_share_of_the_requests() {
    let limits = FetchLimits { idle_timeout: Duration::from_millis(100), ..LIMITS };
    let dead = Server::start(|_| vec![Step::Silence]).await;
    let alive = Server::start(|_| ok(b"list")).await;
    let fetcher = Arc::new(fetcher(limits));
    let waits: Vec<_> = (0..6)
        .map(|_| {
            let (fetcher, url) = (fetcher.clone(), dead.url("/"));
            tokio::spawn(async move { get(&fetcher, &url).await })
        })
        .collect();
    while dead.asked().len() < 2 {
        tokio::task::yield_now().await;
    }
    // All slots of the dead server are taken and others wait for them; the other server does not notice.
    assert_eq!(body(get(&fetcher, &alive.url("/")).await), b"list");
    assert_eq!(dead.asked().len(), 2);
    for wait in waits {
        assert!(wait.await.unwrap().is_err());
    }
    assert_eq!(dead.open_max.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn nothing_waits_while_something_is_fetched() {
    // One thread for all: whoever blocked it would stop the server, too.
    let limits = FetchLimits { idle_timeout: Duration::from_millis(300), ..LIMITS };
    let dead = Server::start(|_| vec![Step::Silence]).await;
    let fetcher = fetcher(limits);
    let mut turns = 0;
    let url = dead.url("/");
    let counting = async {
        loop {
            tokio::task::yield_now().await;
            turns += 1;
        }
    };
    tokio::select! {
        result = get(&fetcher, &url) => assert!(result.is_err()),
        () = counting => {}
    }
    assert!(turns > 50, "{turns}");
}

#[tokio::test]
async fn https_needs_configured_roots_and_the_right_server() {
    let (own, other) = (Authority::root("Own"), Authority::root("Other"));
    let issued = own.issue(&Leaf::server("localhost"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(issued.chain().to_vec(), issued.key())
        .unwrap();
    let server = Server::start_with(Some(TlsAcceptor::from(Arc::new(config))), |_| ok(b"list")).await;
    let at = |host: &str| format!("https://{host}:{}/", server.address.port());
    let with = |authority: &Authority| {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).unwrap();
        let fetcher = Fetcher::new(LIMITS);
        fetcher.verify_https_by(Some(&tls(roots).unwrap()));
        fetcher
    };
    let result = get(&fetcher(LIMITS), &at("localhost")).await;
    assert!(matches!(result, Err(FetchError::NoRoots(_))), "{result:?}");
    for (fetcher, host) in [(with(&other), "localhost"), (with(&own), "127.0.0.1")] {
        let result = get(&fetcher, &at(host)).await;
        assert!(matches!(result, Err(FetchError::Tls { .. })), "{host}: {result:?}");
    }
    let fetcher = with(&own);
    assert_eq!(body(get(&fetcher, &at("localhost")).await), b"list");
    fetcher.verify_https_by(None);
    assert!(get(&fetcher, &at("localhost")).await.is_err());
    assert_eq!(server.asked().len(), 1);
}
