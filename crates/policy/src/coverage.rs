//! Which lines of a policy its tests evaluate.
//!
//! A line counts if a rule, an `else` or a condition begins on it. A condition is covered if a test evaluated it, a rule
//! or an `else` if all its conditions held in one. A line is covered if all that begins on it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::set::SourceKind;
use crate::trace::{Ending, Seen, Traced, TracedRule};

/// Coverage of a policy by its tests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Every file of rules, in order of their paths. Tests are not among them.
    pub files: Vec<FileCoverage>,
}

/// Coverage of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCoverage {
    /// Path of the source.
    pub file: String,
    /// Lines that are covered, in order.
    pub covered: Vec<u32>,
    /// Lines that count and are not covered, in order.
    pub not_covered: Vec<u32>,
}

impl Coverage {
    pub(crate) fn of(traced: &Traced, seen: &Seen) -> Self {
        let mut files: BTreeMap<&str, BTreeMap<u32, bool>> = BTreeMap::new();
        let is_test = |rule: &&TracedRule| SourceKind::of(&rule.at.file) == Some(SourceKind::PolicyTest);
        for rule in traced.rules.iter().filter(|rule| !is_test(rule)) {
            let lines = files.entry(&rule.at.file).or_default();
            count(rule, seen, |line, covered| *lines.entry(line).or_insert(true) &= covered);
        }
        let lines = |lines: &BTreeMap<u32, bool>, wanted: bool| {
            lines.iter().filter(|(_, covered)| **covered == wanted).map(|(line, _)| *line).collect()
        };
        let files = files.into_iter().map(|(file, all)| FileCoverage {
            file: file.to_owned(),
            covered: lines(&all, true),
            not_covered: lines(&all, false),
        });
        Self { files: files.collect() }
    }

    /// Covered lines of all files, and all lines that count.
    pub fn lines(&self) -> (usize, usize) {
        self.files
            .iter()
            .map(FileCoverage::lines)
            .fold((0, 0), |sum, lines| (sum.0 + lines.0, sum.1 + lines.1))
    }

    /// Whether at least so many percent of the lines are covered.
    pub fn reaches(&self, percent: u8) -> bool {
        let (covered, all) = self.lines();
        covered * 100 >= usize::from(percent) * all
    }
}

impl FileCoverage {
    /// Covered lines, and all lines that count.
    pub fn lines(&self) -> (usize, usize) {
        (self.covered.len(), self.covered.len() + self.not_covered.len())
    }
}

fn count(rule: &TracedRule, seen: &Seen, mut line: impl FnMut(u32, bool)) {
    if let Some(lines) = &rule.lines {
        line(rule.at.line, seen.any(&rule.at.file, lines));
    }
    for body in &rule.bodies {
        line(body.at.line, body.ending(seen) == Ending::Held);
        for condition in &body.conditions {
            line(condition.at.line, condition.tried(seen));
            for (nested, lines) in &condition.nested {
                line(*nested, seen.any(&condition.at.file, lines));
            }
        }
    }
}
