//! Machines that tests make up: directories with the files that `/proc`, `/sys` and `/run` would have.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use ringward_config::IoDriver;
use tempfile::TempDir;

use super::asked::Answers;
use super::machine::Machine;
use super::needs::{Needs, Upstream};
use super::report::{Row, Verdict};

/// A machine in the making, at first without any file.
pub(super) struct Fixture {
    root: Arc<TempDir>,
    answers: Answers,
}

/// A machine whose files stay for as long as it does.
pub(super) struct Made {
    machine: Machine,
    _root: Arc<TempDir>,
}

impl Deref for Made {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        Fixture { root: Arc::new(TempDir::new().unwrap()), answers: Answers::default() }
    }

    pub(super) fn file(self, path: &str, text: &str) -> Fixture {
        self.bytes(path, text.as_bytes())
    }

    pub(super) fn bytes(self, path: &str, bytes: &[u8]) -> Fixture {
        let path = self.root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    pub(super) fn directory(self, path: &str) -> Fixture {
        fs::create_dir_all(self.root.path().join(path.trim_start_matches('/'))).unwrap();
        self
    }

    pub(super) fn link(self, path: &str, to: &str) -> Fixture {
        let path = self.root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
        self
    }

    pub(super) fn answers(self, answers: Answers) -> Fixture {
        Fixture { answers, ..self }
    }

    pub(super) fn machine(&self) -> Made {
        let machine = Machine::new(self.root.path(), self.answers.clone());
        Made { machine, _root: self.root.clone() }
    }
}

/// What a small configuration needs.
pub(super) fn needs() -> Needs {
    Needs {
        io: IoDriver::Auto,
        workers: 4,
        connections: 1000,
        files: 2000,
        backlog: 4096,
        ports: vec![8443],
        upstreams: vec![Upstream {
            cluster: "app".to_owned(),
            per_endpoint: 1000,
            one_per_request: false,
            is_local: false,
        }],
        files_named: Vec::new(),
    }
}

/// Compares what a row says with what it should.
#[track_caller]
pub(super) fn check(row: &Row, verdict: Verdict, found: &str, fix: &str) {
    assert_eq!(row.verdict, verdict, "{row:?}");
    assert!(row.found.contains(found), "{found}: {row:?}");
    assert_eq!(row.fix.is_some(), !fix.is_empty(), "{row:?}");
    assert!(row.fix.as_deref().unwrap_or_default().contains(fix), "{fix}: {row:?}");
    assert_eq!(row.fix.is_some(), matches!(verdict, Verdict::Warn | Verdict::Bad), "{row:?}");
}
