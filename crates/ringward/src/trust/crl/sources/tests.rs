use ringward_config::HostName;
use ringward_testkit::{Authority, Crl, Issued, Leaf, der};
use ringward_tls::CrlFloors;

use super::*;
use crate::trust::fetch::Validators;
use crate::trust::testing::{issuer, path};

const NOW: i64 = 1_000_000;
const URL: &str = "http://crl.example.com/ca.crl";

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn rules(bundle: &str, urls: &[&str], points: &[&str]) -> Rules {
    let points: Vec<HostName> = points.iter().map(|host| HostName::parse(host).unwrap()).collect();
    Rules {
        bundle: bundle.to_owned(),
        urls: urls.iter().map(|text| url(text)).collect(),
        points: Arc::new(AllowList::new(&points)),
        every: Duration::from_secs(3600),
        bytes_max: 1000,
        leaf_only: false,
    }
}

fn configured(rules: Vec<Rules>) -> Sources {
    let mut sources = Sources::default();
    let (gone, events) = sources.configure(rules, NOW);
    assert!(gone.is_empty() && events.is_empty());
    sources
}

fn due(sources: &mut Sources, now: i64) -> Vec<String> {
    sources.due(now, 100).into_iter().map(|task| task.url.to_string()).collect()
}

fn urls(sources: &Sources) -> Vec<String> {
    sources.iter().map(|source| source.url.to_string()).collect()
}

/// A list of `root` that is good until long after [`NOW`].
fn list(root: &Authority, crl: &Crl) -> List {
    let der = root.sign_crl(crl);
    List::read(&der, &[issuer(root)], &CrlFloors::new(), i64::MAX / 2).unwrap()
}

fn new(list: List) -> Outcome {
    Outcome::New { list, validators: Validators::default(), digest: [1; 32] }
}

fn unreachable(reason: &str) -> Outcome {
    Outcome::Unreachable { reason: reason.to_owned(), retry_after: None }
}

fn client() -> (Authority, Issued) {
    let root = Authority::root("Root");
    let client = root.intermediate("Issuing").issue(&Leaf::client("a"));
    (root, client)
}

/// freshestCRL with one URL (RFC 5280 §5.2.6).
fn naming_delta(crl: Crl, url: &str) -> Crl {
    let name = der::tlv(0x86, url.as_bytes());
    let point = der::tlv(0x30, &der::tlv(0xa0, &der::tlv(0xa0, &name)));
    crl.extension("2.5.29.46", false, &der::tlv(0x30, &point))
}

#[test]
fn a_configured_url_is_fetched_at_once_and_then_at_its_interval() {
    let mut sources = configured(vec![rules("a", &[URL], &[])]);
    assert!(!sources.all_tried());
    let task = &sources.due(NOW, 100)[0];
    assert!(matches!(task.reach, Reach::Configured));
    assert_eq!((task.bytes_max, &task.point), (1000, &None));
    // Not twice at the same time.
    assert!(due(&mut sources, NOW).is_empty());
    let root = Authority::root("Root");
    let events = sources.finished(&url(URL), new(list(&root, &Crl::new())), NOW, 0.0).unwrap();
    assert!(matches!(events[..], [Event::Renewed { .. }]));
    assert!(sources.all_tried());
    assert!(due(&mut sources, NOW + 3599).is_empty());
    let task = sources.due(NOW + 3600, 100).remove(0);
    assert_eq!(task.digest, Some([1; 32]));
    assert!(sources.finished(&url(URL), Outcome::Same, NOW + 3600, 0.0).unwrap().is_empty());
    assert_eq!(sources.lists().count(), 1);
}

#[test]
fn failures_are_mentioned_once_and_take_nothing_away() {
    let mut sources = configured(vec![rules("a", &[URL], &[])]);
    let root = Authority::root("Root");
    sources.finished(&url(URL), new(list(&root, &Crl::new())), NOW, 0.0);
    let mut at = NOW + 3600;
    let mut mentioned = Vec::new();
    for reason in ["dead", "dead", "dead", "lying"] {
        assert_eq!(due(&mut sources, at), [URL]);
        for event in sources.finished(&url(URL), unreachable(reason), at, 0.0).unwrap() {
            let Event::Failed { reason, retry_in, .. } = event else { panic!("{event:?}") };
            mentioned.push((reason, retry_in));
        }
        at = sources.iter().next().unwrap().due.unix();
    }
    assert_eq!(mentioned, [("dead".to_owned(), 10), ("lying".to_owned(), 80)]);
    assert_eq!(sources.lists().count(), 1);
    assert_eq!(sources.iter().next().unwrap().status().problem.as_deref(), Some("lying"));
    let events = sources.finished(&url(URL), Outcome::Same, at, 0.0).unwrap();
    assert!(matches!(events[..], [Event::Recovered(_)]));
}

#[test]
fn a_server_that_wants_to_be_left_alone_is() {
    let mut sources = configured(vec![rules("a", &[URL], &[])]);
    let retry_after = Some(Duration::from_secs(900));
    sources.finished(&url(URL), Outcome::Unreachable { reason: "busy".to_owned(), retry_after }, NOW, 1.0);
    assert!(due(&mut sources, NOW + 899).is_empty());
    assert_eq!(due(&mut sources, NOW + 900), [URL]);
}

#[test]
fn distribution_points_are_taken_of_verified_paths_on_allowed_hosts() {
    let mut sources =
        configured(vec![rules("a", &[], &["crl.example.com", "127.0.0.1"]), rules("b", &[], &[])]);
    let (root, client) = client();
    let points = [
        "http://crl.example.com/1",
        "http://evil.example/2",
        "ldap://crl.example.com/3",
        "http://127.0.0.1:9/4",
    ];
    // Of another bundle, whose list is empty, and of none.
    assert!(sources.sighted(&path("b", &client, &root, &points), NOW).is_empty());
    assert!(sources.sighted(&path("c", &client, &root, &points), NOW).is_empty());
    assert!(urls(&sources).is_empty());
    let events = sources.sighted(&path("a", &client, &root, &points), NOW);
    assert!(matches!(&events[..], [Event::HostRefused { host, .. }] if host == "evil.example"), "{events:?}");
    assert_eq!(urls(&sources), ["http://127.0.0.1:9/4", "http://crl.example.com/1"]);
    // Mentioned once.
    assert!(sources.sighted(&path("a", &client, &root, &points), NOW).is_empty());
    let tasks = sources.due(NOW, 100);
    assert_eq!(tasks.len(), 2);
    for task in tasks {
        assert!(matches!(&task.reach, Reach::Listed(list) if list.allows(&task.url)));
        assert_eq!(task.point, Some(PointOf { bundle: "a".to_owned(), until_unix: i64::MAX }));
    }
}

#[test]
fn only_leaves_lead_anywhere_if_only_they_are_looked_up() {
    let (root, client) = client();
    let mut seen = (*path("a", &client, &root, &["http://crl.example.com/leaf"])).clone();
    seen.certificates[1].crl_urls = Box::new(["http://crl.example.com/issuing".into()]);
    let seen = Arc::new(seen);
    for (leaf_only, expected) in [(true, 1), (false, 2)] {
        let mut sources = configured(vec![Rules { leaf_only, ..rules("a", &[], &["crl.example.com"]) }]);
        sources.sighted(&seen, NOW);
        assert_eq!(urls(&sources).len(), expected);
    }
}

#[test]
fn their_number_is_bounded() {
    let mut sources = configured(vec![rules("a", &[URL], &["crl.example.com"])]);
    let (root, client) = client();
    let mut mentioned = 0;
    for number in 0..SOURCES_MAX + 10 {
        let point = format!("http://crl.example.com/{number}");
        mentioned += sources.sighted(&path("a", &client, &root, &[&point]), NOW).len();
    }
    assert_eq!((urls(&sources).len(), mentioned), (SOURCES_MAX, 1));
    assert_eq!(sources.due(NOW, 7).len(), 2);
}

#[test]
fn a_server_gets_no_more_than_its_share_of_the_turns() {
    let slow = ["http://slow.example/1", "http://slow.example/2", "http://slow.example/3"];
    let mut sources =
        configured(vec![rules("a", &[slow[0], slow[1], slow[2], "http://slow.example:81/", URL], &[])]);
    assert_eq!(due(&mut sources, NOW), [URL, slow[0], slow[1], "http://slow.example:81/"]);
    assert!(due(&mut sources, NOW).is_empty());
    sources.finished(&url(slow[1]), unreachable("dead"), NOW, 0.0);
    assert_eq!(due(&mut sources, NOW), [slow[2]]);
    let mut sources = configured(vec![rules("a", &[URL, "http://b.example/", "http://c.example/"], &[])]);
    assert_eq!(sources.due(NOW, 2).len(), 2);
}

#[test]
fn what_they_occupy_is_bounded() {
    let mut sources = configured(vec![rules("a", &[URL], &["crl.example.com"])]);
    let (root, client) = client();
    let points = ["http://crl.example.com/1", "http://crl.example.com/2"];
    sources.sighted(&path("a", &client, &root, &points), NOW);
    let long = list(&root, &(0..100_u8).fold(Crl::new(), |crl, serial| crl.revoke(&[1, serial])));
    sources.point_bytes_max = long.memory_bytes();
    // The operator's own may be as large as they like.
    sources.finished(&url(URL), new(long.clone()), NOW, 0.0);
    assert!(matches!(
        sources.finished(&url(points[0]), new(long.clone()), NOW, 0.0).unwrap()[..],
        [Event::Renewed { .. }]
    ));
    assert!(matches!(
        sources.finished(&url(points[1]), new(long.clone()), NOW, 0.0).unwrap()[..],
        [Event::Failed { .. }]
    ));
    // In the place of its predecessor it fits.
    assert!(matches!(
        sources.finished(&url(points[0]), new(long), NOW, 0.0).unwrap()[..],
        [Event::Renewed { .. }]
    ));
    assert_eq!(sources.lists().count(), 2);
    let own = new(list(&root, &(0..120_u8).fold(Crl::new(), |crl, serial| crl.revoke(&[1, serial]))));
    assert!(matches!(sources.finished(&url(URL), own, NOW, 0.0).unwrap()[..], [Event::Renewed { .. }]));
}

#[test]
fn what_is_remembered_of_clients_is_bounded() {
    let mut sources = configured(vec![rules("a", &[], &["crl.example.com"])]);
    let (root, client) = client();
    let seen = path("a", &client, &root, &["http://crl.example.com/1"]);
    (0..=RECENT_MAX).for_each(|_| drop(sources.sighted(&seen, NOW)));
    assert_eq!(sources.recent.len(), RECENT_MAX);
    let mut mentioned = 0;
    for number in 0..REFUSED_MAX + 10 {
        let elsewhere = format!("http://{number}.example/1");
        mentioned += sources.sighted(&path("a", &client, &root, &[&elsewhere]), NOW).len();
    }
    assert_eq!(mentioned, REFUSED_MAX);
}

#[test]
fn a_point_serves_the_bundles_that_allow_its_host() {
    let point = "http://crl.example.com/1";
    let (root, client) = client();
    let allowing = |bundle| rules(bundle, &[], &["crl.example.com"]);
    let mut sources = configured(vec![allowing("a"), rules("b", &[], &["other.example"]), allowing("c")]);
    for bundle in ["a", "b", "c"] {
        sources.sighted(&path(bundle, &client, &root, &[point]), NOW);
    }
    assert_eq!(sources.bundles_of(&url(point)), ["a", "c"]);
    sources.configure(vec![allowing("a"), rules("c", &[], &["other.example"])], NOW);
    assert_eq!(sources.bundles_of(&url(point)), ["a"]);
}

#[test]
fn a_list_is_fetched_as_often_as_its_most_eager_bundle_wants_and_before_it_ends() {
    let root = Authority::root("Root");
    let every = |bundle, seconds| Rules { every: Duration::from_secs(seconds), ..rules(bundle, &[URL], &[]) };
    let mut sources = configured(vec![every("a", 3600), every("b", 60)]);
    due(&mut sources, NOW);
    sources.finished(&url(URL), new(list(&root, &Crl::new())), NOW, 0.0);
    assert_eq!(due(&mut sources, NOW + 60), [URL]);

    let long = list(&root, &Crl::new());
    let end = long.head().next_update_unix;
    let mut sources = configured(vec![every("a", 365 * 86_400)]);
    due(&mut sources, NOW);
    sources.finished(&url(URL), new(long), end - 2 * 3600, 0.0);
    assert_eq!(due(&mut sources, end), [URL]);
}

#[test]
fn a_point_goes_when_no_certificate_needs_it() {
    let mut sources = configured(vec![rules("a", &[], &["crl.example.com"])]);
    let (root, client) = client();
    let until = |valid_until| {
        let seen = (*path("a", &client, &root, &["http://crl.example.com/1"])).clone();
        Arc::new(PeerPath { valid_until, ..seen })
    };
    sources.sighted(&until(NOW + 10), NOW);
    sources.sighted(&until(NOW + 20), NOW);
    sources.sighted(&until(NOW + 5), NOW);
    assert!(sources.expire(NOW + 20).is_empty());
    assert_eq!(sources.expire(NOW + 21), [url("http://crl.example.com/1")]);
    assert!(urls(&sources).is_empty());
}

#[test]
fn another_configuration_keeps_what_it_still_wants() {
    let root = Authority::root("Root");
    let other = "http://other.example/b.crl";
    let mut sources = configured(vec![rules("a", &[URL, other], &[])]);
    sources.finished(&url(URL), new(list(&root, &Crl::new())), NOW, 0.0);
    sources.finished(&url(other), new(list(&root, &Crl::new())), NOW, 0.0);
    // Named by another bundle now, to be fetched more often.
    let eager = Rules { every: Duration::from_secs(60), ..rules("b", &[URL], &[]) };
    let (gone, _) = sources.configure(vec![eager], NOW);
    assert_eq!(gone, [url(other)]);
    assert_eq!(sources.lists().count(), 1);
    assert_eq!(sources.bundles_of(&url(URL)), ["b"]);
    assert!(due(&mut sources, NOW + 59).is_empty());
    assert_eq!(due(&mut sources, NOW + 60), [URL]);
    // What was under way for the other is not used any more.
    assert!(sources.finished(&url(other), new(list(&root, &Crl::new())), NOW, 0.0).is_none());
}

#[test]
fn a_host_that_is_allowed_later_serves_those_who_were_seen_before() {
    let mut sources = configured(vec![rules("a", &[], &["other.example"])]);
    let (root, client) = client();
    sources.sighted(&path("a", &client, &root, &["http://crl.example.com/1"]), NOW);
    assert!(urls(&sources).is_empty());
    sources.configure(vec![rules("a", &[], &["crl.example.com"])], NOW);
    assert_eq!(urls(&sources), ["http://crl.example.com/1"]);
    let (gone, _) = sources.configure(vec![rules("a", &[], &["other.example"])], NOW);
    assert_eq!(gone, [url("http://crl.example.com/1")]);
}

#[test]
fn a_list_of_an_unknown_ca_waits_for_it() {
    let mut sources = configured(vec![rules("a", &[URL], &[])]);
    due(&mut sources, NOW);
    sources.issuer_found(NOW);
    sources.finished(&url(URL), Outcome::NoIssuer { reason: "who?".to_owned() }, NOW, 0.0);
    assert!(due(&mut sources, NOW + 1).is_empty());
    sources.issuer_found(NOW + 1);
    assert_eq!(due(&mut sources, NOW + 1), [URL]);
}

#[test]
fn deltas_are_fetched_where_lists_name_them_if_that_is_allowed() {
    let root = Authority::root("Root");
    let table = [
        ("http://crl.example.com/delta", &[][..], true, true),
        ("http://crl.example.com:81/delta", &[], false, false),
        ("http://evil.example/delta", &[], false, false),
        ("http://evil.example/delta", &["evil.example"], true, false),
    ];
    for (delta, points, allowed, as_configured) in table {
        let mut sources = configured(vec![rules("a", &[URL], points)]);
        let complete = list(&root, &naming_delta(Crl::new().number(7), delta));
        let events = sources.finished(&url(URL), new(complete), NOW, 0.0).unwrap();
        assert_eq!(
            events.iter().any(|event| matches!(event, Event::HostRefused { .. })),
            !allowed,
            "{delta}"
        );
        assert_eq!(urls(&sources).contains(&delta.to_owned()), allowed, "{delta}");
        let tasks = sources.due(NOW, 100);
        let task = tasks.iter().find(|task| task.url.to_string() == delta);
        assert_eq!(
            task.is_some_and(|task| matches!(task.reach, Reach::Configured)),
            as_configured,
            "{delta}"
        );
        // It goes with the list that names it.
        sources.finished(&url(URL), new(list(&root, &Crl::new().number(8))), NOW, 0.0);
        assert_eq!(urls(&sources), [URL]);
    }
}

#[test]
fn deltas_go_when_their_host_is_allowed_no_more_and_are_few() {
    let root = Authority::root("Root");
    let delta = "http://other.example/delta";
    let complete = || new(list(&root, &naming_delta(Crl::new().number(7), delta)));
    let mut sources = configured(vec![rules("a", &[URL], &["other.example"])]);
    sources.finished(&url(URL), complete(), NOW, 0.0);
    assert_eq!(urls(&sources), [URL, delta]);
    let (gone, _) = sources.configure(vec![rules("a", &[URL], &[])], NOW);
    assert_eq!((gone, urls(&sources)), (vec![url(delta)], vec![URL.to_owned()]));

    let names = (0..10).map(|number| der::tlv(0x86, format!("http://crl.example.com/{number}").as_bytes()));
    let point = der::tlv(0x30, &der::tlv(0xa0, &der::tlv(0xa0, &names.collect::<Vec<_>>().concat())));
    let naming = Crl::new().number(7).extension("2.5.29.46", false, &der::tlv(0x30, &point));
    let mut sources = configured(vec![rules("a", &[URL], &[])]);
    sources.finished(&url(URL), new(list(&root, &naming)), NOW, 0.0);
    assert_eq!(urls(&sources).len(), 1 + DELTAS_MAX);
}

#[test]
fn copies_are_taken_back_by_those_who_want_them() {
    let root = Authority::root("Root");
    let mut sources = configured(vec![rules("a", &[URL], &["crl.example.com"])]);
    let good = || list(&root, &Crl::new());
    let point = |bundle: &str, until_unix| Some(PointOf { bundle: bundle.to_owned(), until_unix });
    assert!(sources.restore(&url(URL), None, good(), NOW));
    let table = [
        ("http://crl.example.com/1", point("a", NOW + 1), true),
        ("http://crl.example.com/2", point("a", NOW), false),
        ("http://crl.example.com/3", point("b", NOW + 1), false),
        ("http://evil.example/4", point("a", NOW + 1), false),
        ("http://crl.example.com/5", None, false),
    ];
    for (text, point, taken) in table {
        assert_eq!(sources.restore(&url(text), point.as_ref(), good(), NOW), taken, "{text}");
    }
    // They are fetched anew nevertheless.
    assert_eq!(due(&mut sources, NOW), ["http://crl.example.com/1", URL]);
}
