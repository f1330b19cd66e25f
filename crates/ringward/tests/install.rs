//! `deploy/install.sh`, below another root: what it puts there, what it refuses, and that it does nothing twice.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ringward_testkit::sha256_hex;
use tempfile::TempDir;

/// As much of a program as is looked at.
const PROGRAM: &[u8] = b"\x7fELF, the rest of a program";

/// A host of a fleet.
struct Host {
    dir: TempDir,
}

impl Host {
    fn new() -> Host {
        Host { dir: TempDir::new().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn write(&self, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join("ringward");
        fs::write(&path, content).unwrap();
        path
    }

    /// Installs a file, which is to have this checksum.
    fn install(&self, options: &[&str], checksum: &str, file: &Path) -> (Option<i32>, String) {
        let mut script = Command::new(deploy().join("install.sh"));
        script.args(options).args(["--sha256", checksum, "--root"]).arg(self.root()).arg(file);
        let Output { status, stdout, stderr } = script.output().unwrap();
        (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
    }
}

#[test]
fn it_installs_once() {
    let host = Host::new();
    let (file, checksum) = (host.write(PROGRAM), sha256_hex(PROGRAM));
    let (code, said) = host.install(&["--dry-run"], &checksum, &file);
    assert!(code == Some(0) && said.contains("would run: install") && !host.root().exists(), "{said}");
    let (code, said) = host.install(&[], &checksum.to_uppercase(), &file);
    assert!(code == Some(0) && !said.contains("nothing to do"), "{said}");
    for (from, to, mode) in [
        (file.clone(), "usr/local/bin/ringward", 0o755),
        (deploy().join("systemd/ringward.service"), "etc/systemd/system/ringward.service", 0o644),
        (
            deploy().join("systemd/ringward-report.service"),
            "etc/systemd/system/ringward-report.service",
            0o644,
        ),
        (deploy().join("systemd/ringward-report.timer"), "etc/systemd/system/ringward-report.timer", 0o644),
        (deploy().join("systemd/sysusers.conf"), "etc/sysusers.d/ringward.conf", 0o644),
        (deploy().join("systemd/tmpfiles.conf"), "etc/tmpfiles.d/ringward.conf", 0o644),
    ] {
        let to = host.root().join(to);
        assert_eq!(fs::read(&to).unwrap(), fs::read(from).unwrap(), "{to:?}");
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, mode, "{to:?}");
    }
    let (code, said) = host.install(&[], &checksum, &file);
    assert!(code == Some(0) && said.starts_with("nothing to do") && said.lines().count() == 1, "{said}");
    // A file that somebody has changed is put right, and it alone.
    let unit = host.root().join("etc/systemd/system/ringward.service");
    fs::set_permissions(&unit, fs::Permissions::from_mode(0o666)).unwrap();
    let (code, said) = host.install(&[], &checksum, &file);
    assert!(code == Some(0) && said.contains("ringward.service") && !said.contains("bin/ringward"), "{said}");
}

#[test]
fn only_what_was_named_is_installed() {
    let host = Host::new();
    let file = host.write(PROGRAM);
    for (content, checksum, complaint) in [
        (PROGRAM, sha256_hex(b"another"), "nothing was done"),
        (PROGRAM, String::new(), "usage: "),
        (b"#!/bin/sh\n", sha256_hex(b"#!/bin/sh\n"), "neither a package nor a program"),
        (b"", sha256_hex(b""), "neither a package nor a program"),
    ] {
        host.write(content);
        let (code, said) = host.install(&[], &checksum, &file);
        assert!(code != Some(0) && said.contains(complaint), "{complaint}: {said}");
        assert!(!host.root().exists(), "{complaint}");
    }
    let (code, said) = host.install(&[], &sha256_hex(b""), Path::new("/nonexistent"));
    assert!(code == Some(1) && said.contains("is not there"), "{said}");
    let (code, said) = host.install(&["--frobnicate"], &sha256_hex(b""), &file);
    assert!(code == Some(2) && said.contains("usage: "), "{said}");
}

#[test]
fn it_is_a_script_that_enables_nothing() {
    let path = deploy().join("install.sh");
    let text = fs::read_to_string(&path).unwrap();
    assert!(Command::new("sh").arg("-n").arg(&path).status().unwrap().success());
    assert!(
        ["systemctl enable", "systemctl start", "curl ", "wget "].iter().all(|word| !text.contains(word))
    );
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}
