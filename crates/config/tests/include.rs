//! Configurations in several files: what may stand where, and where messages point.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ringward_config::{Config, Diagnostics, IncludedFiles, parse_with};

/// Files by path.
struct Memory(BTreeMap<PathBuf, &'static str>);

impl IncludedFiles for Memory {
    fn names(&mut self, directory: &Path) -> Result<Vec<String>, String> {
        let within = self.0.keys().filter(|path| path.parent() == Some(directory));
        let names: Vec<String> =
            within.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).rev().collect();
        if names.is_empty() { Err("no such directory".to_owned()) } else { Ok(names) }
    }

    fn text(&mut self, file: &Path) -> Result<String, String> {
        self.0.get(file).map(|text| (*text).to_owned()).ok_or_else(|| "no such file".to_owned())
    }
}

/// The configuration of a main file that begins with `head`, and of these others.
fn read(head: &str, others: &[(&str, &'static str)]) -> Result<Config, Diagnostics> {
    let others = others.iter().map(|(path, text)| (Path::new("/etc/ringward").join(path), *text)).collect();
    parse_with(&format!("{head}{MAIN}"), Path::new("/etc/ringward/ringward.toml"), &mut Memory(others))
}

fn refused(head: &str, others: &[(&str, &'static str)]) -> String {
    read(head, others).expect_err("it is refused").to_string()
}

const MAIN: &str = r#"
[trust.staff]
ca = "staff.pem"

[policy.main]
path = "policies"

[cluster.api]
endpoints = "10.0.0.1:80"

[[listener]]
name = "edge"
bind = "0.0.0.0:443"

[[listener.host]]
names = ["api.example.com"]
certificate = { chain = "api.pem", key = "api.key" }
client_auth = { mode = "required", trust = ["staff", "partner-*"] }
require = "mtls"
policy = "main"

[[listener.host.route]]
match = { path = "/{rest...}" }
cluster = "api"
"#;

const PARTNERS: &str = "[[include]]\npath = \"partners.d/*.toml\"\nmay_define = [\"trust\", \"tenant\", \"cluster\", \"host\", \"route\"]\nnames = [\"partner-*\"]\n";

const ACME: &str = r#"
[trust.partner-acme]
ca = "acme.pem"

[tenant.partner-acme]
trust = "partner-acme"

[cluster.partner-acme]
endpoints = "10.0.0.2:80"

[[host]]
listener = "edge"
names = ["acme.example.com"]
certificate = { chain = "acme-server.pem", key = "acme-server.key" }
client_auth = { mode = "required", trust = "partner-acme" }
policy = "main"

[[host.route]]
match = { path = "/{rest...}" }
cluster = "partner-acme"

[[route]]
host = "api.example.com"
match = { path = "/acme/{rest...}" }
cluster = "partner-acme"
"#;

const GLOBEX: &str = "[trust.partner-globex]\nca = \"globex.pem\"\n";

#[test]
fn files_add_what_they_may() {
    let others =
        [("partners.d/globex.toml", GLOBEX), ("partners.d/acme.toml", ACME), ("partners.d/.swp.toml", "?")];
    let config = read(PARTNERS, &others).unwrap_or_else(|found| panic!("{found}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    assert_eq!(config.trust.keys().collect::<Vec<_>>(), ["partner-acme", "partner-globex", "staff"]);
    // Paths begin where they stand.
    assert_eq!(config.trust["partner-acme"].ca[0].path, Path::new("/etc/ringward/partners.d/acme.pem"));
    assert_eq!(config.trust["staff"].ca[0].path, Path::new("/etc/ringward/staff.pem"));
    let [api, acme] = &config.listeners[0].hosts[..] else { panic!("two hosts") };
    let trusts = &api.client_auth.verification().unwrap().trust;
    assert_eq!(trusts, &["staff", "partner-acme", "partner-globex"], "as many as there are");
    assert_eq!(acme.names[0].to_string(), "acme.example.com");
    let paths = |host: &ringward_config::Host| -> Vec<String> {
        host.routes.iter().map(|route| route.path.to_string()).collect()
    };
    assert_eq!(paths(api), ["/{rest...}", "/acme/{rest...}"]);
    assert_eq!(paths(acme), ["/{rest...}"]);
    // In the order of their names, and watched.
    let files: Vec<&Path> = config.files().iter().map(|file| file.path).take(3).collect();
    let expected = ["ringward.toml", "partners.d/acme.toml", "partners.d/globex.toml"];
    assert_eq!(files, expected.map(|path| Path::new("/etc/ringward").join(path)));
    assert_eq!(acme.at.to_string(), "/etc/ringward/partners.d/acme.toml:11:1");
}

#[test]
fn no_partner_and_no_directory_are_said() {
    let nobody = read("[[include]]\npath = \"d/*.toml\"\nmay_define = [\"trust\"]\n", &[("d/README", "")]);
    let nobody = nobody.expect_err("the host trusts bundles that there are not").to_string();
    assert!(nobody.contains("there is no trust bundle whose name begins with \"partner-\""), "{nobody}");
    let missing = refused("[[include]]\npath = \"d/*.toml\"\nmay_define = [\"trust\"]\n", &[]);
    assert!(
        missing.contains("ringward.toml:2:8: error: the directory `/etc/ringward/d` cannot be read"),
        "{missing}"
    );
    let file = refused("[[include]]\npath = \"d/a.toml\"\nmay_define = [\"trust\"]\n", &[]);
    assert!(file.contains("`/etc/ringward/d/a.toml` cannot be included: no such file"), "{file}");
}

/// What may not stand in a file of partners, with the place and the words of the refusal.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    (
        "[tenant.partner-x]\ntrust = [\"partner-globex\", \"staff\"]\n",
        "2:28",
        "a tenant of this file may not have the bundle \"staff\"",
    ),
    ("[server]\nworkers = 1\n", "1:1", "this file may not define \"server\""),
    ("[policy.partner-x]\npath = \"p\"\n", "1:9", "this file may not define \"policy\""),
    ("[[listener]]\nname = \"x\"\n", "1:1", "this file may not define \"listener\""),
    ("listener = 7\n", "1:12", "this file may not define \"listener\""),
    ("[trust.other]\nca = \"a\"\n", "1:8", "this file may not define a trust called \"other\""),
    (
        "[trust.staff]\nca = \"a\"\n",
        "1:8",
        "[trust.staff] is defined at /etc/ringward/ringward.toml:6 already",
    ),
    (
        "[[include]]\npath = \"x\"\nmay_define = [\"server\"]\n",
        "1:1",
        "an included file includes nothing itself",
    ),
    (
        "[[route]]\nhost = \"api.example.com\"\nmatch = { path = \"/x\" }\ncluster = \"api\"\nclient_auth = \"off\"\n",
        "5:15",
        "client_auth is \"off\", but `require` says \"mtls\"",
    ),
    (
        "[[host]]\nlistener = \"edge\"\nnames = [\"x.test\"]\ncertificate = { chain = \"c\", key = \"k\" }\nclient_auth = { mode = \"off\" }\ndanger_no_policy = true\n",
        "6:1",
        "`danger_no_policy` may not stand in this file",
    ),
    ("[[host]]\nlistener = \"egde\"\nnames = [\"x.test\"]\n", "2:12", "there is no listener \"egde\""),
    ("[[host]]\nnames = [\"x.test\"]\n", "1:1", "`listener` is missing"),
    (
        "[[host]]\nlistener = \"edge\"\nnames = [\"api.example.com\"]\n",
        "3:10",
        "appears twice on this listener, first at /etc/ringward/ringward.toml:",
    ),
    (
        "[[route]]\nhost = \"app.example.com\"\nmatch = { path = \"/x\" }\n",
        "2:8",
        "no host is called \"app.example.com\"",
    ),
    (
        "[[route]]\nhost = \"API.example.com\"\nmatch = { path = \"/{all...}\" }\ncluster = \"api\"\n",
        "3:9",
        "the route can never be reached",
    ),
    ("[trust.partner-a\n", "1:17", "not valid TOML"),
    ("[trust.partner-a]\nac = \"x\"\n", "2:1", "unknown key `ac`"),
];

#[test]
fn a_file_that_says_more_than_it_may_is_refused_at_the_place() {
    for &(text, place, message) in FORBIDDEN {
        let others = [("partners.d/globex.toml", GLOBEX), ("partners.d/x.toml", text)];
        let found = refused(PARTNERS, &others);
        let begin = format!("/etc/ringward/partners.d/x.toml:{place}: error: ");
        let said = found.split("\n\n").any(|one| one.starts_with(&begin) && one.contains(message));
        assert!(said, "{text}\n{begin}{message}\n{found}");
    }
}

#[test]
fn keys_that_weaken_have_to_be_allowed() {
    const WEAK: &str = "[[host]]\nlistener = \"edge\"\nnames = [\"x.test\"]\ncertificate = { chain = \"c\", key = \"k\" }\nclient_auth = { mode = \"off\" }\ndanger_no_policy = true\n[[host.route]]\nmatch = { path = \"/\" }\ncluster = \"api\"\n";
    let others = [("partners.d/globex.toml", GLOBEX), ("partners.d/x.toml", WEAK)];
    assert!(read(&format!("{PARTNERS}may_weaken = true\n"), &others).is_ok());
    assert!(refused(PARTNERS, &others).contains("allows it with `may_weaken = true`"));
}

#[test]
fn entries_are_checked() {
    for (entry, message) in [
        ("path = \"*/a.toml\"\nmay_define = [\"trust\"]", "has `*` where it is not understood"),
        ("path = \"d/\"\nmay_define = [\"trust\"]", "is a directory"),
        ("path = \"d/*a*.toml\"\nmay_define = [\"trust\"]", "has `*` where it is not understood"),
        ("path = \"partners.d/*.toml\"", "`may_define` is missing"),
        ("path = \"partners.d/*.toml\"\nmay_define = []", "`may_define` is empty"),
        ("path = \"partners.d/*.toml\"\nmay_define = [\"hosts\"]", "unknown value \"hosts\""),
        ("may_define = [\"trust\"]", "`path` is missing"),
        ("path = \"ringward.toml\"\nmay_define = [\"trust\"]", "is part of the configuration already"),
        ("path = \"partners.d/*.toml\"\nmay_define = [\"trust\"]\nnames = [\"*\"]", "is every name, or none"),
    ] {
        let found = refused(&format!("[[include]]\n{entry}\n"), &[("partners.d/globex.toml", GLOBEX)]);
        assert!(found.contains(message), "{entry}\n{found}");
    }
    let twice = format!("{PARTNERS}{PARTNERS}");
    let found = refused(&twice, &[("partners.d/globex.toml", GLOBEX)]);
    assert!(
        found.contains("`/etc/ringward/partners.d/globex.toml` is part of the configuration already"),
        "{found}"
    );
}

#[test]
fn keys_of_what_stands_apart_are_refused_where_nothing_stands_apart() {
    let misplaced =
        MAIN.replace("names = [\"api.example.com\"]", "names = [\"api.example.com\"]\nlistener = \"edge\"");
    let found = ringward_config::parse(&misplaced.replace(", \"partner-*\"", ""), Path::new("r.toml"));
    let found = found.expect_err("it is refused").to_string();
    assert!(found.contains("`listener` is only for a [[host]]"), "{found}");
}
