//! The units in deploy/systemd, as their README has them installed: in place below a directory, known to systemd, and confined.
//!
//! systemd itself does not run here. What it says of the units is what `systemd-analyze` and the tools beside it say.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A directory in which the commands of the README have put things.
struct Machine {
    root: TempDir,
    /// Of its systemd.
    version: u32,
}

impl Machine {
    /// `None` without systemd's tools, which is said.
    fn new() -> Option<Machine> {
        let Ok(output) = Command::new("systemd-analyze").arg("--version").output() else {
            eprintln!("skipped: systemd-analyze is not installed");
            return None;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        let version = text.split_whitespace().nth(1).unwrap().parse().unwrap();
        let machine = Machine { root: TempDir::new().unwrap(), version };
        let commands = documented("sudo install ");
        assert!(commands.len() >= 8, "{commands:#?}");
        for command in commands {
            let is_for_old = command.contains("before-253.conf");
            if !is_for_old || machine.is_old() {
                machine.install(&command);
            }
        }
        // What the units need of systemd's own.
        for unit in TARGETS {
            machine.write(&format!("usr/lib/systemd/system/{unit}"), "[Unit]\nDescription=of systemd\n");
        }
        Some(machine)
    }

    /// It does not know `Type=notify-reload`.
    fn is_old(&self) -> bool {
        self.version < 253
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// As the README says, but below the directory. Of the program, which nobody runs here, it is enough that one is there.
    fn install(&self, command: &str) {
        let mut words: Vec<String> = command.split(' ').skip(1).map(str::to_owned).collect();
        let target = words.pop().unwrap();
        words.push(format!("{}{target}", self.root.path().display()));
        let built = "target/release/ringward";
        let words = words.iter().map(|word| if word == built { "/bin/true" } else { word });
        let mut install = Command::new("env");
        let output = install.args(words).current_dir(repository()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", said(&output));
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let root = format!("--root={}", self.root.path().display());
        Command::new(program).arg(root).args(arguments).output().unwrap()
    }
}

#[test]
fn units_are_understood() {
    let Some(machine) = Machine::new() else { return };
    for unit in ["ringward.service", "ringward.socket", "ringward-report.service", "ringward-report.timer"] {
        let output = machine.run("systemd-analyze", &["verify", "--man=no", "--generators=no", unit]);
        let text = said(&output);
        let complaints = text.lines().filter(|line| {
            // The drop-in for these follows.
            let of_old =
                machine.is_old() && line.contains("Failed to parse service type, ignoring: notify-reload");
            !line.is_empty() && !of_old
        });
        assert_eq!(complaints.collect::<Vec<_>>(), Vec::<&str>::new(), "{unit}");
        assert!(output.status.success(), "{unit}: {text}");
    }
}

#[test]
fn the_service_is_confined() {
    let Some(machine) = Machine::new() else { return };
    // Twenty of a hundred, from which on systemd calls it OK.
    let arguments = ["security", "--offline=yes", "--no-pager", "--threshold=20", "ringward.service"];
    let output = machine.run("systemd-analyze", &arguments);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn what_goes_with_the_units_is_understood() {
    let Some(machine) = Machine::new() else { return };
    machine.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    machine.write("etc/group", "root:x:0:\n");
    for (program, arguments) in [
        ("systemd-sysusers", &["--dry-run"][..]),
        ("systemctl", &["enable", "ringward.service"]),
        ("systemctl", &["enable", "ringward.socket"]),
    ] {
        let output = machine.run(program, arguments);
        assert!(output.status.success(), "{program} {arguments:?}: {}", said(&output));
    }
    let wanted = machine.root.path().join("etc/systemd/system/multi-user.target.wants/ringward.service");
    assert!(wanted.symlink_metadata().is_ok());
}

/// The commands of the README that begin like this.
fn documented(beginning: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join("deploy/systemd/README.md")).unwrap();
    text.lines().filter(|line| line.starts_with(beginning)).map(str::to_owned).collect()
}

fn said(output: &Output) -> String {
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8_lossy(&said).into_owned()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What our units want, or systemd for them.
const TARGETS: [&str; 8] = [
    "basic.target",
    "multi-user.target",
    "network-online.target",
    "network.target",
    "shutdown.target",
    "sockets.target",
    "sysinit.target",
    "timers.target",
];
