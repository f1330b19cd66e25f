use super::*;
use crate::request::ExpectedBytes;

const USUAL: &str = "description = 'x'\n[load]\nconnections = 1\nrequests = 1\n";

fn read(text: &str) -> Result<Scenario, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("my.toml");
    std::fs::write(&file, text).unwrap();
    Scenario::read(&file).map_err(|problems| {
        let prefix = format!("{}/", directory.path().display());
        problems.to_string().replace(&prefix, "")
    })
}

#[test]
fn what_is_said_is_meant() {
    let text = r#"
description = "Partners"
[target]
address = "127.0.0.1:8443"
server_name = ["a{1..3}.test", "b.test"]
pki = "pki"
[load]
connections = 64
streams = 8
duration = "1.5m"
rate = "100"
timeout = "5s"
seed = 9
[connection]
protocol = "h2"
requests = { min = 50, max = 150 }
resume = true
storm_every = "10s"
handshakes_max = 500
client = "next"
[tls]
version = "1.3"
suites = ["TLS_AES_128_GCM_SHA256"]
[[clients]]
name = "good"
share = 98
class = "valid"
count = 10
[[clients]]
name = "strangers"
share = 2
class = "wrong_ca"
outcome = "refused"
[[requests]]
name = "read"
share = 9
path = "/orders/{1..10}"
headers = { Accept-Language = "de" }
expect = { body = "128B", status_for = { good = 204 } }
[[requests]]
name = "write"
clients = ["good", "strangers"]
method = "POST"
path = "/orders"
body = { mean = "4KiB" }
expect = { status = 201, body = "same" }
"#;
    let scenario = read(text).unwrap();
    assert_eq!(scenario.name, "my");
    assert_eq!(scenario.server_names, ["a1.test", "a2.test", "a3.test", "b.test"]);
    assert!(scenario.pki.unwrap().ends_with("pki"));
    assert_eq!((scenario.connections, scenario.streams, scenario.seed), (64, 8, 9));
    assert_eq!(scenario.duration_max, Some(Duration::from_secs(90)));
    assert_eq!(scenario.per_connection, Some(Distribution::Between(50.0, 150.0)));
    assert_eq!(scenario.storm_every, Some(Duration::from_secs(10)));
    assert!(scenario.offer.http2 && scenario.resume && !scenario.kept);
    assert_eq!(scenario.classes.iter().map(|class| class.share).collect::<Vec<_>>(), [98.0, 2.0]);
    assert_eq!(scenario.classes[1].outcome, Outcome::Refused);
    let [read, write] = &scenario.kinds[..] else { panic!("{:?}", scenario.kinds) };
    assert_eq!(read.expected.status_for, [(0, 204)]);
    assert_eq!(read.expected.bytes.get(), ExpectedBytes::Exactly(128));
    assert_eq!(read.fields[0].0, "accept-language");
    assert_eq!((write.body, write.expected.status), (Distribution::Mean(4096.0), 201));
    assert_eq!(write.classes, [0, 1]);
}

/// Each with the place that is shown, and words of the message.
#[test]
fn what_is_wrong_is_shown_with_its_place() {
    let requests = "[[requests]]\nname = 'r'\npath = '/'\n";
    for (text, wanted) in [
        ("description = 'x'\n[load\n", "my.toml:2:6: error: unclosed table"),
        (
            "description = 'x'\nloads = 1\n",
            "my.toml:2:1: error: unknown field `loads`, expected one of `description`",
        ),
        ("description = 'x'\n[load]\nconnections = 'x'\n", "my.toml:3:15: error: invalid type: string \"x\""),
        (
            &format!("{USUAL}{requests}expect = {{ state = 1 }}\n"),
            "my.toml:8:12: error: unknown field `state`",
        ),
        (&format!("{USUAL}{requests}body = -1\n"), "my.toml:8:8: error: invalid value: integer `-1`"),
        (&format!("{USUAL}{requests}body = 5\n"), "my.toml:8:8: error: 5 needs a unit: `\"5B\"`"),
        (
            &format!("{USUAL}{requests}body = {{ min = '2B', max = '1B' }}\n"),
            "my.toml:8:8: error: `max` is less",
        ),
        (&format!("{USUAL}{requests}body = {{ min = '2B' }}\n"), "write `{ min = ..., max = ... }`"),
        (
            &format!("{USUAL}{requests}grpc = {{ kind = 'unary' }}\n"),
            "my.toml:8:8: error: gRPC needs `protocol",
        ),
        (
            &format!("{USUAL}{requests}websocket = {{ messages = 100, between = '1s' }}\n"),
            "it takes 100s at the least",
        ),
        (
            &format!("{USUAL}{requests}method = 'PUT'\nwebsocket = {{ messages = 1 }}\n"),
            "`method` has no meaning",
        ),
        (&format!("{USUAL}{requests}share = 0\n"), "my.toml:8:9: error: a share is more than 0"),
        (&format!("{USUAL}{requests}method = 'get'\n"), "`get` is no method"),
        (
            &format!("{USUAL}{requests}clients = ['x']\n"),
            "my.toml:8:12: error: there are no clients `x`, but `valid`",
        ),
        (
            &format!("{USUAL}{requests}headers = {{ Host = 'x' }}\n"),
            "my.toml:8:13: error: `host` is set by what else",
        ),
        (&format!("{USUAL}{requests}headers = {{ a = \"\\n\" }}\n"), "is no value of a header"),
        (
            &format!("{USUAL}{requests}expect = {{ status = 600 }}\n"),
            "my.toml:8:21: error: 600 is not from 101 to 599",
        ),
        (&format!("{USUAL}{requests}expect = {{ sha256 = 'ab' }}\n"), "64 hexadecimal digits"),
        (&format!("{USUAL}{requests}{requests}"), "my.toml:9:8: error: there is another `r`"),
        (
            &format!("{USUAL}{requests}[[clients]]\nname = 'c'\n"),
            "my.toml:8:1: error: clients need one of `class`",
        ),
        (
            &format!("{USUAL}{requests}[[clients]]\nname = 'c'\nclass = 'good'\n"),
            "my.toml:10:9: error: `good` is none of `valid`, `expired`",
        ),
        (&format!("{USUAL}{requests}[connection]\nrequests = 0\n"), "my.toml:9:12: error: 0 is not from 1"),
        (&format!("{USUAL}{requests}[connection]\nthink_time = '0.5'\n"), "`0.5` is no duration"),
        (&format!("{USUAL}{requests}[connection]\nstorm_every = '0s'\n"), "must be more than nothing"),
        (
            &format!("{USUAL}streams = 2\n{requests}"),
            "my.toml:5:11: error: several requests at the same time need",
        ),
        (&format!("{USUAL}rate = 'x'\n{requests}"), "my.toml:5:8: error: `x` is neither"),
        (
            &format!("{USUAL}rate = '5:1'\nduration = '1s'\n{requests}"),
            "my.toml:6:12: error: `rate` says how long",
        ),
        (&format!("{USUAL}rate = '5'\n{requests}[connection]\nthink_time = '1s'\n"), "closed loops"),
        (
            &format!("description = 'x'\n[load]\nconnections = 1\n{requests}"),
            "my.toml:3:15: error: [load] needs",
        ),
        (&format!("{USUAL}{requests}[target]\nserver_name = 'a{{1..'\n"), "begins no range"),
        (&format!("{USUAL}{requests}[target]\nserver_name = 'a{{1..200000}}'\n"), "more than 100000 names"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(wanted), "{text}\n{error}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_the_line() {
    let text = format!("{USUAL}[[requests]]\nname = 'r'\nshare = -1\npath = 'x'\n");
    assert_eq!(
        read(&text).unwrap_err(),
        "my.toml:7:9: error: a share is more than 0 and up to 1000000000, and not -1\n\
         7 | share = -1\n  |         ^^\n\
         my.toml:8:8: error: `x` must begin with `/` and hold visible ASCII characters only\n\
         8 | path = 'x'\n  |        ^^^"
    );
    let missing = Scenario::read(Path::new("no-such.toml")).unwrap_err().to_string();
    assert!(missing.starts_with("no-such.toml: error: cannot be read: "), "{missing}");
}

#[test]
fn documented_scenarios_can_be_read() {
    let readme = include_str!("../../README.md");
    let (_, documented) = readme.split_once("```toml\ndescription").unwrap();
    let (documented, _) = documented.split_once("```").unwrap();
    let scenario = read(&format!("description{documented}")).unwrap();
    assert_eq!((scenario.classes.len(), scenario.kinds.len()), (2, 2));
}
