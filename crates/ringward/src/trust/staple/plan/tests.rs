use ringward_testkit::{Authority, Issued, Leaf, OcspAnswer};

use super::*;
use crate::trust::fetch::FetchError;
use crate::trust::testing::{credential, location};

const HOUR: i64 = 3600;

struct Scene {
    issuing: Authority,
    issued: Issued,
    credential: Arc<Credential>,
    now: i64,
}

impl Scene {
    fn new(leaf: &Leaf) -> Scene {
        let issuing = Authority::root("Root").intermediate("Issuing");
        let issued = issuing.issue(leaf);
        let now = crate::trust::clock::Clock::system().now_unix();
        Scene { credential: credential(&issued), issuing, issued, now }
    }

    /// Good for a day since an hour ago, or shifted by so many hours.
    fn staple(&self, hours_later: i64) -> Arc<Staple> {
        let at = |unix: i64| std::time::UNIX_EPOCH + Duration::from_secs(unix as u64);
        let start = self.now + (hours_later - 1) * HOUR;
        let answer = OcspAnswer::good(&self.issued, &self.issuing)
            .this_update(at(start))
            .next_update(at(start + 24 * HOUR));
        let der = answer.signed_by_authority(&self.issuing);
        Arc::new(Staple::verify(&der, &self.credential, start).unwrap())
    }

    fn wanted(&self, source: Source) -> Wanted {
        Wanted { host: "a.test".to_owned(), credential: self.credential.clone(), source, at: location() }
    }

    fn plan(&self, staple: Option<Arc<Staple>>) -> Plan {
        Plan::new(self.wanted(fetch("http://ocsp.test/")), None, staple, self.now, 0.0)
    }
}

fn fetch(url: &str) -> Source {
    Source::Fetch(Some(Responder { url: Url::parse(url).unwrap(), reach: Reach::Configured }))
}

fn silence() -> Result<Arc<Staple>, Unstapled> {
    Err(Unstapled::Unreachable(FetchError::Timeout { stage: "in all", after: Duration::from_secs(1) }))
}

#[test]
fn a_staple_is_fetched_at_once_and_again_at_half_of_its_life() {
    let scene = Scene::new(&Leaf::server("a.test"));
    let (now, mut plan) = (scene.now, scene.plan(None));
    assert!(plan.shown(now).is_none());
    assert!(plan.depart(now).is_some());
    assert!(plan.depart(now).is_none(), "one at a time");
    let (is_other, events) = plan.finished(Ok(scene.staple(0)), now, 0.0);
    assert!(is_other && matches!(events[..], [Event::Renewed { .. }]));
    assert!(plan.shown(now).is_some());
    // It was made an hour ago and lasts a day.
    assert!(plan.depart(now + 11 * HOUR - 1).is_none());
    assert!(plan.depart(now + 11 * HOUR).is_some());
    // The same one again is nothing new; an older one neither.
    for hours in [0, -1] {
        let (is_other, events) = plan.finished(Ok(scene.staple(hours)), now + 11 * HOUR, 0.0);
        assert!(!is_other && events.is_empty());
    }
    assert_eq!(plan.last().unwrap().next_update_unix(), now + 23 * HOUR);
    assert_eq!(plan.status(now).status, "good");
}

#[test]
fn the_last_good_one_is_shown_until_its_end_and_not_beyond() {
    let scene = Scene::new(&Leaf::server("a.test"));
    let (now, mut plan) = (scene.now, scene.plan(Some(scene.staple(0))));
    let end = scene.staple(0).usable_until_unix();
    assert_eq!(end, now + 23 * HOUR - 300);
    let mut at = now + 11 * HOUR;
    let mut failures = 0;
    while at < end {
        assert!(plan.shown(at).is_some());
        if plan.depart(at).is_some() {
            let (is_other, _) = plan.finished(silence(), at, 0.0);
            assert!(!is_other);
            failures += 1;
        }
        at += 10;
    }
    // Not every ten seconds, and not only once.
    assert!((10..100).contains(&failures), "{failures}");
    assert!(plan.shown(end).is_none());
    assert_eq!(plan.look(end), [Event::Ended]);
    assert!(plan.last().is_none());
    assert_eq!(plan.look(end + 1), []);
    // It is tried on, and works again.
    assert!(plan.depart(end + 2 * HOUR).is_some());
    let (is_other, events) = plan.finished(Ok(scene.staple(24)), end + 2 * HOUR, 0.0);
    assert!(is_other && events.contains(&Event::Recovered));
    assert!(plan.shown(end + 2 * HOUR).is_some());
}

#[test]
fn the_last_quarter_of_its_life_is_an_alarm_once() {
    let scene = Scene::new(&Leaf::server("a.test"));
    let (now, mut plan) = (scene.now, scene.plan(Some(scene.staple(0))));
    let quarter = now + 17 * HOUR;
    assert_eq!(plan.look(quarter), []);
    assert!(matches!(plan.look(quarter + 1)[..], [Event::RunningOut { left }] if left == 6 * HOUR - 301));
    assert_eq!(plan.look(quarter + 2), []);
    // Also that of a file, which nobody has replaced.
    let mut plan = Plan::new(scene.wanted(Source::File(Some(scene.staple(0)))), None, None, now, 0.0);
    assert!(plan.depart(now + 30 * HOUR).is_none());
    assert!(matches!(plan.look(quarter + 1)[..], [Event::RunningOut { .. }]));
    assert_eq!(plan.look(now + 23 * HOUR), [Event::Ended]);
    assert_eq!(plan.look(now + 23 * HOUR + 1), []);
}

#[test]
fn a_revoked_certificate_shows_no_staple_and_is_told_once() {
    let scene = Scene::new(&Leaf::server("a.test"));
    let (now, mut plan) = (scene.now, scene.plan(Some(scene.staple(0))));
    let revoked = || {
        let answer = OcspAnswer::revoked(
            &scene.issued,
            &scene.issuing,
            ringward_testkit::RevocationReason::KeyCompromise,
        );
        let error =
            Staple::verify(&answer.signed_by_authority(&scene.issuing), &scene.credential, now).unwrap_err();
        Err(Unstapled::Refused(error))
    };
    let (is_other, events) = plan.finished(revoked(), now, 0.0);
    assert!(is_other && matches!(events[..], [Event::Revoked { .. }]));
    assert!(plan.shown(now).is_none() && plan.last().is_none());
    assert_eq!(plan.status(now).status, "revoked");
    let (is_other, events) = plan.finished(revoked(), now, 0.0);
    assert!(!is_other && events.is_empty());
    // A hold may be lifted.
    let (is_other, _) = plan.finished(Ok(scene.staple(0)), now, 0.0);
    assert!(is_other);
    assert_eq!(plan.status(now).status, "good");
}

#[test]
fn failures_are_told_once() {
    let scene = Scene::new(&Leaf::server("a.test"));
    let (now, mut plan) = (scene.now, scene.plan(None));
    let (_, events) = plan.finished(silence(), now, 0.0);
    assert!(matches!(events[..], [Event::Failed { retry_in: 10, .. }]));
    let (_, events) = plan.finished(silence(), now, 0.0);
    assert!(events.is_empty());
    assert!(plan.status(now).problem.is_some());
}

#[test]
fn another_configuration_keeps_the_plan_unless_the_responder_changed() {
    let scene = Scene::new(&Leaf::server("a.test"));
    let now = scene.now;
    let before = || {
        let mut plan = scene.plan(Some(scene.staple(0)));
        plan.finished(silence(), now, 0.0);
        plan
    };
    let kept = Plan::new(scene.wanted(fetch("http://ocsp.test/")), Some(before()), None, now, 0.0);
    assert!(kept.problem.is_some() && kept.last().is_some());
    let mut moved =
        Plan::new(scene.wanted(fetch("http://other.test/")), Some(before()), Some(scene.staple(0)), now, 0.0);
    assert!(moved.problem.is_none() && moved.last().is_some());
    // Of a file now: what was fetched is not shown any more.
    let file = Plan::new(scene.wanted(Source::File(None)), Some(before()), Some(scene.staple(0)), now, 0.0);
    assert!(file.last().is_none() && file.shown(now).is_none());
    moved.also(Wanted { host: "b.test".to_owned(), ..scene.wanted(fetch("http://other.test/")) });
    moved.also(scene.wanted(fetch("http://other.test/")));
    assert_eq!(moved.hosts(), ["a.test", "b.test"]);
}

#[test]
fn a_file_that_breaks_takes_nothing_away() {
    let scene = Scene::new(&Leaf::server("a.test"));
    let now = scene.now;
    let file = |staple, known| Plan::new(scene.wanted(Source::File(staple)), known, None, now, 0.0);
    let first = file(Some(scene.staple(0)), None);
    let broken = file(None, Some(first));
    assert!(broken.shown(now).is_some() && broken.status(now).problem.is_some());
    let mended = file(Some(scene.staple(1)), Some(broken));
    assert_eq!(mended.last().unwrap().next_update_unix(), now + 24 * HOUR);
    assert!(mended.status(now).problem.is_none());
    // At the start there is no last one.
    assert!(file(None, None).last().is_none());
    // Nor is there one after its end.
    let mut broken = file(None, Some(mended));
    assert!(broken.look(now + 24 * HOUR).contains(&Event::Ended));
    assert!(file(None, Some(broken)).last().is_none());
}

#[test]
fn the_configured_responder_comes_before_that_of_the_certificate() {
    let issuing = Authority::root("Root").intermediate("Issuing");
    let named = credential(&issuing.issue(&Leaf::server("a.test").ocsp_url("http://aia.test/")));
    let unnamed = credential(&issuing.issue(&Leaf::server("a.test")));
    let configured = Url::parse("http://own.test/").unwrap();
    let found = |url: Option<&Url>, credential: &Credential| {
        responder(url.cloned(), credential)
            .map(|Responder { url, reach }| (url.to_string(), matches!(reach, Reach::Configured)))
    };
    assert_eq!(found(Some(&configured), &named), Some(("http://own.test/".to_owned(), true)));
    assert_eq!(found(None, &named), Some(("http://aia.test/".to_owned(), false)));
    assert_eq!(found(None, &unnamed), None);
}
