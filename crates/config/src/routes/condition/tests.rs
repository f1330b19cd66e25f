use super::*;

struct Request<'r> {
    headers: &'r [(&'r str, &'r str)],
    query: Option<&'r str>,
}

impl RequestFacts for Request<'_> {
    fn header(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.headers.iter().filter(|(key, _)| *key == name).for_each(|(_, value)| each(value.as_bytes()));
    }

    fn query(&self) -> Option<&str> {
        self.query
    }

    fn identity(&self) -> Option<&PeerIdentity> {
        None
    }
}

fn exact(text: &str) -> TextCondition {
    TextCondition::Exact(text.into())
}

fn prefix(text: &str) -> TextCondition {
    TextCondition::Prefix(text.into())
}

fn regex(text: &str) -> TextCondition {
    TextCondition::Regex(BoundedRegex::new(text).unwrap())
}

const PRESENT: TextCondition = TextCondition::Present(true);
const ABSENT: TextCondition = TextCondition::Present(false);

fn header(condition: TextCondition) -> Conditions {
    Conditions { headers: BTreeMap::from([("x-tier".into(), condition)]), ..Conditions::default() }
}

fn query(condition: TextCondition) -> Conditions {
    Conditions { query: BTreeMap::from([("tier".into(), condition)]), ..Conditions::default() }
}

#[test]
fn each_value_of_a_header_has_to_meet_its_condition() {
    for (condition, values, met) in [
        (exact("gold"), &["gold"][..], true),
        (exact("gold"), &["gold", "gold"], true),
        (exact("gold"), &["gold", "iron"], false),
        (exact("gold"), &["iron", "gold"], false),
        (exact("gold"), &["golden"], false),
        (exact("gold"), &["Gold"], false),
        (exact("gold"), &[], false),
        (exact(""), &[""], true),
        (exact(""), &[], false),
        (prefix("go"), &["gold", "go"], true),
        (prefix("go"), &["g"], false),
        (prefix("go"), &["gold", "iron"], false),
        (regex("g.+d"), &["gold"], true),
        (regex("g.+d"), &["golden"], false),
        (PRESENT, &[""], true),
        (PRESENT, &[], false),
        (ABSENT, &[], true),
        (ABSENT, &[""], false),
    ] {
        let headers: Vec<(&str, &str)> = values.iter().map(|value| ("x-tier", *value)).collect();
        let request = Request { headers: &headers, query: None };
        assert_eq!(header(condition.clone()).are_met_by(&request), met, "{condition} of {values:?}");
    }
}

#[test]
fn a_query_is_compared_decoded() {
    for (condition, text, met) in [
        (exact("a b"), "tier=a+b", true),
        (exact("a b"), "tier=a%20b", true),
        (exact("a b"), "t%69er=a%20b", true),
        (exact("a+b"), "tier=a%2Bb", true),
        (exact("a%2"), "tier=a%2", true),
        (exact("a%zz"), "tier=a%zz", true),
        (exact("a"), "tier=a&tier=b", false),
        (exact("a"), "x=1&&tier=a&", true),
        (exact("a"), "TIER=a", false),
        (exact(""), "tier", true),
        (exact("a=b"), "tier=a=b", true),
        (regex("[0-9]{2}"), "tier=%31%32", true),
        (prefix("\u{e9}"), "tier=%C3%A9t", true),
        (PRESENT, "tier", true),
        (PRESENT, "other=tier", false),
        (ABSENT, "tier=", false),
    ] {
        let request = Request { headers: &[], query: Some(text) };
        assert_eq!(query(condition.clone()).are_met_by(&request), met, "{condition} of {text}");
    }
    assert!(query(ABSENT).are_met_by(&Request { headers: &[], query: None }));
}

#[test]
fn nobody_meets_no_condition_on_an_identity() {
    let request = Request { headers: &[], query: None };
    let tenant = Conditions { tenant: Some("acme".into()), ..Conditions::default() };
    let unit = ringward_identity::TenantMatch::OrganizationalUnit("x".into());
    let unit = Conditions { identity: vec![IdentityCondition::new(unit).unwrap()], ..Conditions::default() };
    assert!(!tenant.are_met_by(&request) && !unit.are_met_by(&request));
    assert!(Conditions::default().are_met_by(&request));
}

#[test]
fn what_implies_and_excludes() {
    let all = [exact("gold"), exact("iron"), prefix("go"), prefix("gol"), regex("g.*"), PRESENT, ABSENT];
    let implied = |a: &TextCondition| -> String {
        all.iter().map(|b| if header(a.clone()).imply(&header(b.clone())) { '1' } else { '0' }).collect()
    };
    let excluded = |a: &TextCondition| -> String {
        all.iter().map(|b| if header(a.clone()).exclude(&header(b.clone())) { '1' } else { '0' }).collect()
    };
    let implied: Vec<String> = all.iter().map(implied).collect();
    let excluded: Vec<String> = all.iter().map(excluded).collect();
    assert_eq!(implied, ["1011110", "0100010", "0010010", "0011010", "0000110", "0000010", "0000001"]);
    assert_eq!(excluded, ["0100001", "1011101", "0100001", "0100001", "0100001", "0000001", "1111110"]);
    assert!(header(exact("gold")).imply(&Conditions::default()));
    assert!(!Conditions::default().imply(&header(PRESENT)));
    assert!(!header(exact("a")).exclude(&query(exact("b"))));
}
