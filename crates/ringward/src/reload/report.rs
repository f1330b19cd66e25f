//! What a reload came to, as whoever asked for it is told.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The outcome of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum ReloadReport {
    /// What was read is in force.
    Applied {
        /// The generation that has it.
        generation: u64,
        /// The files that made the difference.
        files: ChangedFiles,
    },
    /// What was read is what runs.
    Unchanged {
        /// The generation in force.
        generation: u64,
    },
    /// What was read is refused, and what ran runs on.
    Refused {
        /// The generation in force.
        generation: u64,
        /// Why.
        problems: Vec<String>,
    },
    /// Nothing was put in force, because the process ends.
    TooLate,
}

/// Files that the configuration names, itself included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct ChangedFiles {
    /// With another content than before.
    changed: Vec<String>,
    /// Not named or not there before.
    added: Vec<String>,
    /// Not named or not there any more.
    removed: Vec<String>,
}

/// Paths with the SHA-256 of their contents.
pub(crate) type FileDigests = BTreeMap<PathBuf, [u8; 32]>;

impl ChangedFiles {
    /// Between two readings.
    pub(super) fn between(before: &FileDigests, now: &FileDigests) -> ChangedFiles {
        let shown = |path: &PathBuf| path.display().to_string();
        let only_in = |one: &FileDigests, other: &FileDigests| -> Vec<String> {
            one.keys().filter(|path| !other.contains_key(*path)).map(shown).collect()
        };
        let differs = |(path, digest): &(&PathBuf, &[u8; 32])| {
            before.get(*path).is_some_and(|before| before != *digest)
        };
        ChangedFiles {
            changed: now.iter().filter(differs).map(|(path, _)| shown(path)).collect(),
            added: only_in(now, before),
            removed: only_in(before, now),
        }
    }
}

impl ChangedFiles {
    /// In one line: the first of them, each with `~`, `+` or `-`.
    pub(super) fn brief(&self) -> String {
        let kinds = [("~", &self.changed), ("+", &self.added), ("-", &self.removed)];
        let all =
            kinds.iter().flat_map(|(mark, paths)| paths.iter().map(move |path| format!("{mark}{path}")));
        let mut shown: Vec<String> = all.clone().take(FILES_SHOWN).collect();
        let more = all.count().saturating_sub(FILES_SHOWN);
        if more > 0 {
            shown.push(format!("and {more} more"));
        }
        shown.join(", ")
    }
}

/// Files named in one line of the log.
const FILES_SHOWN: usize = 10;

impl ReloadReport {
    /// In one line, for the status of the process.
    pub(crate) fn status(&self) -> String {
        match self {
            ReloadReport::Applied { generation, .. } | ReloadReport::Unchanged { generation } => {
                serving(*generation)
            }
            ReloadReport::Refused { generation, problems } => {
                format!("{}; refused: {}", serving(*generation), problems.join("; "))
            }
            ReloadReport::TooLate => "draining".to_owned(),
        }
    }
}

/// The status of a process that serves.
pub(crate) fn serving(generation: u64) -> String {
    format!("serving generation {generation}")
}

impl fmt::Display for ReloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReloadReport::Applied { generation, files } => {
                writeln!(f, "generation {generation} is in force")?;
                let kinds = [("~", &files.changed), ("+", &files.added), ("-", &files.removed)];
                lines(f, kinds.iter().flat_map(|(mark, paths)| paths.iter().map(move |path| (*mark, path))))
            }
            ReloadReport::Unchanged { generation } => {
                writeln!(f, "nothing has changed, generation {generation} is in force")
            }
            ReloadReport::Refused { generation, problems } => {
                writeln!(f, "refused, generation {generation} stays in force")?;
                lines(f, problems.iter().map(|problem| ("", problem)))
            }
            ReloadReport::TooLate => writeln!(f, "not reloaded: the process ends"),
        }
    }
}

fn lines<'a>(
    f: &mut fmt::Formatter<'_>,
    lines: impl Iterator<Item = (&'a str, &'a String)> + Clone,
) -> fmt::Result {
    for (mark, text) in lines.clone().take(LINES_MAX) {
        writeln!(f, "  {mark}{}{text}", if mark.is_empty() { "" } else { " " })?;
    }
    match lines.skip(LINES_MAX).count() {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more (`--json` shows all)"),
    }
}

/// Fits on a screen.
const LINES_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(files: &[(&str, u8)]) -> FileDigests {
        files.iter().map(|(path, content)| (PathBuf::from(path), [*content; 32])).collect()
    }

    #[test]
    fn files_that_differ_are_named() {
        let before = digests(&[("gone", 1), ("same", 2), ("edited", 3)]);
        let now = digests(&[("same", 2), ("edited", 4), ("new", 5)]);
        let files = ChangedFiles::between(&before, &now);
        let report = ReloadReport::Applied { generation: 7, files };
        assert_eq!(report.to_string(), "generation 7 is in force\n  ~ edited\n  + new\n  - gone\n");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["outcome"], &json["generation"]), (&"applied".into(), &7.into()));
        assert_eq!(serde_json::from_value::<ReloadReport>(json).unwrap(), report);
        assert_eq!(ChangedFiles::between(&now, &now), ChangedFiles::default());
    }

    #[test]
    fn a_long_list_is_cut_for_people_only() {
        for (count, more) in [(LINES_MAX, false), (LINES_MAX + 1, true)] {
            let problems = (0..count).map(|number| format!("problem {number}")).collect();
            let report = ReloadReport::Refused { generation: 1, problems };
            assert_eq!(report.to_string().contains("and 1 more"), more);
            assert!(report.status().ends_with(&format!("problem {}", count - 1)));
        }
    }
}
