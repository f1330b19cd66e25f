//! The Debian package, as far as it can be looked at without building it: what goes where, and what its scripts do below another root.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// A file of the package: where it comes from, where it goes, its mode.
type Asset = (String, String, String);

/// `[package.metadata.deb]`, as cargo reads it.
fn deb() -> Value {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(crate_dir());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours = packages.iter().find(|package| package["name"] == "ringward").unwrap();
    ours["metadata"]["deb"].clone()
}

fn assets() -> Vec<Asset> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let deb = deb();
    let assets = deb["assets"].as_array().unwrap();
    assets.iter().map(|asset| (text(&asset[0]), text(&asset[1]), text(&asset[2]))).collect()
}

/// The files that a source names; it may have one `*`, in its last part.
fn files(source: &str) -> Vec<PathBuf> {
    let path = crate_dir().join(source);
    let (directory, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
    let Some((first, last)) = name.split_once('*') else { return vec![path] };
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{source}: {error}"));
    let names = entries.map(|entry| entry.unwrap().path());
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(first) && name.ends_with(last)
    };
    names.filter(fits).collect()
}

#[test]
fn it_is_what_it_says() {
    let deb = deb();
    assert_eq!(deb["name"], "ringward");
    let scripts = crate_dir().join(deb["maintainer-scripts"].as_str().unwrap());
    assert_eq!(scripts.canonicalize().unwrap(), debian().canonicalize().unwrap());
    assert!(crate_dir().join(deb["license-file"][0].as_str().unwrap()).exists());
    let depends = deb["depends"].as_str().unwrap();
    for (program, package) in [
        ("systemd-sysusers", "systemd"),
        ("deb-systemd-invoke", "init-system-helpers"),
        ("runuser", "util-linux"),
    ] {
        let is_used = SCRIPTS.iter().any(|script| read(&debian().join(script)).contains(program));
        assert!(is_used && depends.contains(package), "{program}");
    }
    // With that table, cargo-deb would add scripts of its own, which enable and start.
    assert!(deb.get("systemd-units").is_none());
}

#[test]
fn all_files_are_there_and_go_to_where_packages_may_put_them() {
    let mut places = BTreeSet::new();
    for (source, place, mode) in assets() {
        let is_program = source == "target/release/ringward";
        assert_eq!(mode, if is_program { "755" } else { "644" }, "{source}");
        for file in files(&source) {
            assert!(is_program || file.is_file(), "{source}: {file:?} is missing");
            let name = file.file_name().unwrap().to_str().unwrap();
            let place = if place.ends_with('/') { format!("{place}{name}") } else { place.clone() };
            assert!(place.starts_with("usr/") && !place.starts_with("usr/local"), "{place}");
            assert!(
                !["pem", "key", "p12"].iter().any(|end| place.ends_with(end)),
                "no certificates: {place}"
            );
            assert!(places.insert(place.clone()), "two files go to {place}");
        }
        assert!(!files(&source).is_empty(), "{source} names nothing");
    }
    for place in [
        "usr/bin/ringward",
        "usr/lib/systemd/system/ringward.service",
        "usr/lib/sysusers.d/ringward.conf",
        "usr/lib/tmpfiles.d/ringward.conf",
        "usr/share/doc/ringward/sysctl/90-ringward.conf",
        "usr/share/doc/ringward/examples/manual.toml",
        "usr/share/doc/ringward/examples/policies/partners.rego",
        "usr/share/doc/ringward/tuning.md",
        "usr/share/doc/ringward/manual/migrate-nginx.md",
        "usr/share/doc/ringward/manual/migrate/nginx/nginx.conf",
        "usr/share/doc/ringward/manual/migrate/nginx/policy.rego",
        "usr/share/doc/ringward/manual/migrate/haproxy/haproxy.cfg",
        "usr/share/doc/ringward/manual/migrate/haproxy/api.toml",
        "usr/share/doc/ringward/manual/migrate/envoy/envoy.yaml",
        "usr/share/doc/ringward/manual/migrate/envoy/ringward.toml",
    ] {
        assert!(places.contains(place), "{place} is not installed");
    }
}

#[test]
fn the_units_start_the_program_of_the_package() {
    let command = |text: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("ExecStart="));
        lines.next_back().unwrap().to_owned()
    };
    for (unit, drop_in) in
        [("ringward.service", "10-package.conf"), ("ringward-report.service", "20-report.conf")]
    {
        let unit = command(&read(&deploy().join("systemd").join(unit)));
        let drop_in = read(&debian().join(drop_in));
        assert!(drop_in.contains("\nExecStart=\n"), "the unit's own command is taken back first");
        assert_eq!(command(&drop_in), unit.replace("/usr/local/bin/", "/usr/bin/"));
    }
}

#[test]
fn scripts_can_be_run_and_do_not_serve_by_themselves() {
    for script in SCRIPTS {
        let path = debian().join(script);
        let text = read(&path);
        assert!(text.starts_with("#!/bin/sh\n") && text.contains("\nset -e\n"), "{script}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755, "{script}");
        let checked = Command::new("sh").arg("-n").arg(&path).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
        // What is shown to the operator does not count.
        let done = text.lines().filter(|line| !line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
        for line in done {
            for word in [
                "systemctl enable",
                "systemctl start",
                "systemctl restart \"",
                "pki dev",
                "invoke start",
                "invoke restart",
            ] {
                assert!(!line.contains(word), "{script}: {line}");
            }
        }
    }
}

/// A machine that the package is installed on, and programs of systemd that only write down that they were called.
struct Target {
    root: TempDir,
    programs: TempDir,
}

impl Target {
    fn new() -> Target {
        let target = Target { root: TempDir::new().unwrap(), programs: TempDir::new().unwrap() };
        for program in ["systemctl", "systemd-sysusers", "systemd-tmpfiles", "deb-systemd-invoke", "runuser"]
        {
            let path = target.programs.path().join(program);
            let calls = target.calls_file();
            fs::write(&path, format!("#!/bin/sh\necho \"{program} $*\" >>'{}'\n", calls.display())).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        target
    }

    fn calls_file(&self) -> PathBuf {
        self.programs.path().join("calls")
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let path = format!("{}:{}", self.programs.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(debian().join(script));
        command.args(arguments).env("DPKG_ROOT", self.root.path()).env("PATH", path).output().unwrap()
    }

    /// What was called by a script that succeeds.
    #[track_caller]
    fn calls(&self, script: &str, arguments: &[&str]) -> (String, String) {
        let _ = fs::remove_file(self.calls_file());
        let output = self.run(script, arguments);
        assert!(output.status.success(), "{output:?}");
        let calls = fs::read_to_string(self.calls_file()).unwrap_or_default();
        let root = self.root.path().display().to_string();
        (calls.replace(&root, "ROOT"), String::from_utf8(output.stdout).unwrap())
    }
}

#[test]
fn an_installation_makes_a_user_and_a_directory_and_says_how_to_go_on() {
    let target = Target::new();
    let made =
        "systemd-sysusers --root=ROOT ringward.conf\nsystemd-tmpfiles --root=ROOT --create ringward.conf\n";
    let (calls, said) = target.calls("postinst", &["configure", ""]);
    assert_eq!(calls, made);
    for part in
        ["neither started nor enabled", "/usr/share/doc/ringward/examples", "ringward check", "ringward tune"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Below another root nothing runs that could be restarted.
    assert_eq!(target.calls("postinst", &["configure", "0.0.9-1"]), (made.to_owned(), String::new()));
}

#[test]
fn an_upgrade_stops_nothing() {
    let target = Target::new();
    for (script, arguments) in [
        ("prerm", ["upgrade", "2"]),
        ("postrm", ["upgrade", "2"]),
        ("prerm", ["failed-upgrade", "1"]),
        ("postinst", ["abort-upgrade", "2"]),
        ("postrm", ["abort-upgrade", "1"]),
    ] {
        assert_eq!(
            target.calls(script, &arguments),
            (String::new(), String::new()),
            "{script} {arguments:?}"
        );
    }
}

#[test]
fn removing_disables_and_purging_leaves_what_is_not_ours() {
    let target = Target::new();
    let put = |path: &str| {
        let path = target.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    };
    let ours = ["var/lib/ringward/deny.list", "var/log/ringward/access.json", "run/ringward/admin.sock"];
    let key = "etc/ringward/tls/api.key";
    ours.iter().for_each(|path| put(path));
    put(key);
    put("var/lib/other/file");
    let (calls, _) = target.calls("prerm", &["remove"]);
    assert_eq!(calls, "systemctl --root=ROOT --no-reload --quiet disable ringward.service\n");
    target.calls("postrm", &["remove"]);
    let is_there = |path: &str| target.root.path().join(path).exists();
    assert!(ours.iter().all(|path| is_there(path)), "removing keeps what an installation finds again");
    let (_, said) = target.calls("postrm", &["purge"]);
    assert!(!ours.iter().any(|path| is_there(path)) && !is_there("var/lib/ringward"));
    assert!(
        is_there(key) && is_there("var/lib/other/file") && said.contains("/etc/ringward is left"),
        "{said}"
    );
    fs::remove_dir_all(target.root.path().join("etc/ringward/tls")).unwrap();
    assert_eq!(target.calls("postrm", &["purge"]).1, "");
    assert!(!is_there("etc/ringward"));
    // Also when there is nothing any more.
    target.calls("postrm", &["purge"]);
}

#[test]
fn what_dpkg_never_says_is_refused() {
    for script in SCRIPTS {
        let output = Target::new().run(script, &["frobnicate"]);
        assert_eq!(output.status.code(), Some(1), "{script}: {output:?}");
    }
}

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn deploy() -> PathBuf {
    crate_dir().join("../../deploy")
}

fn debian() -> PathBuf {
    deploy().join("debian")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
