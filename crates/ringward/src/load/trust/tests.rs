use ringward_testkit::{Authority, AuthorityOptions, Crl, Leaf, Pki};
use ringward_tls::Serial;

use super::*;
use crate::load::{Gathered, Refused, gather};

/// Files of a gateway whose clients come from one CA with a list.
struct Site {
    pki: Pki,
    root: Authority,
}

impl Site {
    fn new() -> Site {
        let (pki, root) = (Pki::new(), Authority::root("Root"));
        let site = Site { pki, root };
        let server = site.pki.write_pem("server", &site.root.issue(&Leaf::server("localhost")));
        site.publish(&Crl::new().number(5).revoke(&[7]));
        site.trust(&[&site.root]);
        let text = format!(
            "[server]\nstate_dir = \"state\"\n[trust.t]\nca = \"roots.pem\"\ncrl = \"root.crl\"\n\
             [cluster.c]\nendpoints = [\"127.0.0.1:1\"]\n[[listener]]\nname = \"l\"\nbind = [\"127.0.0.1:0\"]\n\
             [[listener.host]]\nnames = [\"localhost\"]\ncertificate = {{ chain = {:?}, key = {:?} }}\n\
             client_auth = {{ mode = \"required\", trust = \"t\" }}\ndanger_no_policy = true\n\
             [[listener.host.route]]\nmatch = {{ path = \"/\" }}\ncluster = \"c\"\n",
            server.chain, server.key
        );
        site.pki.write("ringward.toml", text);
        site
    }

    fn publish(&self, crl: &Crl) {
        self.pki.write("root.crl", self.root.sign_crl(crl));
    }

    fn trust(&self, roots: &[&Authority]) {
        self.pki.write_authorities("roots.pem", roots);
    }

    fn gathered(&self) -> Gathered {
        gather(&self.pki.path().join("ringward.toml")).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn load(&self, previous: Option<&Loaded>, floors: &CrlFloors) -> Result<Loaded, Refused> {
        self.gathered().build(previous, floors)
    }

    fn loaded(&self, previous: Option<&Loaded>) -> Loaded {
        self.load(previous, &CrlFloors::new()).unwrap_or_else(|refused| panic!("{}", refused.problems))
    }
}

/// Whether both have the very same list, and not only an equal one.
fn kept(one: &Loaded, other: &Loaded) -> bool {
    one.lists.len() == 1 && other.lists.len() == 1 && one.lists[0].is(&other.lists[0])
}

#[test]
fn a_list_that_did_not_change_is_not_read_again() {
    let site = Site::new();
    let first = site.loaded(None);
    assert!(!kept(&first, &site.loaded(None)), "nobody has read it before");
    let second = site.loaded(Some(&first));
    assert!(kept(&first, &second));
    assert_eq!(second.list_status.len(), 1);
    assert!(kept(&first, &site.loaded(Some(&second))), "by a third one neither");
}

#[test]
fn a_list_that_changed_is_read() {
    let site = Site::new();
    let first = site.loaded(None);
    site.publish(&Crl::new().number(5).revoke(&[8]));
    let second = site.loaded(Some(&first));
    assert!(!kept(&first, &second));
    let List::Complete(index) = &second.lists[0] else { panic!("a delta") };
    assert!(index.find(&Serial::new(&[8]).unwrap()).is_some());
    assert!(index.find(&Serial::new(&[7]).unwrap()).is_none());
}

#[test]
fn a_list_is_read_again_when_its_signers_change() {
    let site = Site::new();
    let first = site.loaded(None);
    site.trust(&[&site.root, &Authority::root("Other")]);
    assert!(!kept(&first, &site.loaded(Some(&first))));

    // The key has signed the list as before, but may not any more.
    let mute = AuthorityOptions::named("Root").same_key_as(&site.root).without_crl_signing();
    site.trust(&[&Authority::root_with(&mute)]);
    let refused = site.load(Some(&first), &CrlFloors::new()).unwrap_err();
    assert!(refused.problems.to_string().contains("root.crl"), "{}", refused.problems);
}

#[test]
fn a_list_that_did_not_change_may_have_become_too_old() {
    let site = Site::new();
    let first = site.loaded(None);
    // As when a newer one was fetched in between.
    let newer = site.root.sign_crl(&Crl::new().number(6));
    let newer = List::read(&newer, &first.issuers["t"], &CrlFloors::new(), i64::MAX / 2).unwrap();
    let mut floors = CrlFloors::new();
    floors.raise(newer.head(), false);
    assert!(site.load(None, &floors).is_err(), "so it is without a previous one");
    assert!(site.load(Some(&first), &floors).is_err());
}
