//! What is shown: rows, each with what is there, what the configuration needs, and the command that would mend it.

use std::fmt;

use serde::Serialize;

use super::machine::Unread;
use crate::table::{Table, printable};

/// All rows of one look at a machine.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Nothing is bad.
    pub(super) ok: bool,
    /// What was read to know what is needed; absent if that are the defaults.
    pub(super) config: Option<String>,
    /// Whose limits are shown: the process that runs, or this shell.
    pub(super) limits_of: String,
    /// The container that this runs in, which hides parts of the machine.
    pub(super) container: Option<String>,
    pub(super) rows: Vec<Row>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// What it is.
    pub(super) name: String,
    pub(super) verdict: Verdict,
    /// What is there.
    pub(super) found: String,
    /// What the configuration needs.
    pub(super) needed: String,
    /// What would change it; absent if nothing has to be.
    pub(super) fix: Option<String>,
}

/// Whether a thing is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Works, slower or less safely than it could.
    Warn,
    /// The configuration cannot do here what it says.
    Bad,
    /// Cannot be known from here.
    Unknown,
}

/// What a look at one thing has shown.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    verdict: Verdict,
    found: String,
    fix: Option<String>,
}

impl Report {
    pub(super) fn new(
        config: Option<String>,
        limits_of: String,
        container: Option<String>,
        rows: Vec<Row>,
    ) -> Report {
        let ok = rows.iter().all(|row| row.verdict != Verdict::Bad);
        Report { ok, config, limits_of, container, rows }
    }
}

impl Row {
    /// A row by what `look` has shown; unknown if that could not be read.
    pub(super) fn new(
        name: impl Into<String>,
        needed: impl Into<String>,
        look: impl FnOnce() -> Result<Judged, Unread>,
    ) -> Row {
        let judged = look().unwrap_or_else(|unread| Judged::unknown(unread.to_string()));
        let Judged { verdict, found, fix } = judged;
        Row { name: name.into(), verdict, found, needed: needed.into(), fix }
    }
}

impl Judged {
    pub(super) fn ok(found: impl Into<String>) -> Judged {
        Judged { verdict: Verdict::Ok, found: found.into(), fix: None }
    }

    pub(super) fn warn(found: impl Into<String>, fix: impl Into<String>) -> Judged {
        Judged { verdict: Verdict::Warn, found: found.into(), fix: Some(fix.into()) }
    }

    pub(super) fn bad(found: impl Into<String>, fix: impl Into<String>) -> Judged {
        Judged { verdict: Verdict::Bad, found: found.into(), fix: Some(fix.into()) }
    }

    pub(super) fn unknown(found: impl Into<String>) -> Judged {
        Judged { verdict: Verdict::Unknown, found: found.into(), fix: None }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Bad => "bad",
            Verdict::Unknown => "unknown",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.config {
            Some(config) => writeln!(f, "for {}; limits are those of {}", printable(config), self.limits_of)?,
            None => writeln!(f, "for the defaults of one listener; limits are those of {}", self.limits_of)?,
        }
        if let Some(container) = &self.container {
            writeln!(
                f,
                "in a container ({}): devices, clock and most of the kernel are the host's, so look there, too",
                printable(container)
            )?;
        }
        let mut table = Table::new(&["", "WHAT", "FOUND", "NEEDED"]);
        for row in &self.rows {
            table.row([row.verdict.to_string(), row.name.clone(), row.found.clone(), row.needed.clone()]);
        }
        write!(f, "{table}")?;
        let mut mending = self.rows.iter().filter_map(|row| Some((row, row.fix.as_ref()?))).peekable();
        if mending.peek().is_some() {
            writeln!(
                f,
                "\nwhat would change it (nothing was changed; `sysctl -w` lasts until the next boot):"
            )?;
        }
        for (row, fix) in mending {
            writeln!(f, "  {}: {}", printable(&row.name), printable(fix))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[Verdict]) -> Report {
        let judged =
            |verdict| Judged { verdict, found: "a\u{1b}".to_owned(), fix: Some("mend it".to_owned()) };
        let rows = verdicts.iter().map(|verdict| Row::new("thing", "b", || Ok(judged(*verdict)))).collect();
        Report::new(None, "this shell".to_owned(), Some("docker".to_owned()), rows)
    }

    #[test]
    fn only_what_is_bad_fails() {
        use Verdict::{Bad, Ok, Unknown, Warn};
        for (verdicts, ok) in [(&[][..], true), (&[Ok, Warn, Unknown][..], true), (&[Ok, Bad, Ok][..], false)]
        {
            assert_eq!(report(verdicts).ok, ok, "{verdicts:?}");
        }
    }

    #[test]
    fn rows_are_shown_with_what_would_mend_them() {
        let shown = report(&[Verdict::Warn]).to_string();
        for part in ["container (docker)", "warn  thing  a?     b", "nothing was changed", "  thing: mend it"]
        {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let json = serde_json::to_value(report(&[Verdict::Bad])).unwrap();
        assert_eq!((&json["ok"], &json["rows"][0]["verdict"]), (&false.into(), &"bad".into()));
    }
}
