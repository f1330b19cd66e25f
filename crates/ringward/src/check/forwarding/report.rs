//! What came of the trials, as a table or JSON.

use std::fmt;

use ringward_config::Diagnostics;
use serde::Serialize;

use crate::table::Table;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Everything that was tried is as it has to be.
    pub(super) ok: bool,
    /// What refuses the configuration.
    pub(super) problems: Diagnostics,
    pub(super) trials: Vec<Trial>,
}

/// One part of the contract at one place.
#[derive(Debug, Serialize)]
pub(super) struct Trial {
    pub(super) listener: String,
    /// Absent where it is the listener's affair.
    pub(super) host: Option<String>,
    /// The first of several routes that are alike in this.
    pub(super) route: Option<String>,
    /// Of the client; absent where it makes no difference.
    pub(super) protocol: Option<&'static str>,
    pub(super) contract: &'static str,
    pub(super) outcome: Outcome,
    /// What was seen, or why it was not tried.
    pub(super) detail: String,
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Kept,
    Broken,
    /// No request gets there that could be made up here.
    Untried,
}

impl Report {
    pub(super) fn new(problems: Diagnostics, trials: Vec<Trial>) -> Report {
        let is_kept = trials.iter().all(|trial| trial.outcome != Outcome::Broken);
        Report { ok: problems.is_empty() && is_kept, problems, trials }
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.trials.iter().filter(|trial| trial.outcome == outcome).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["LISTENER", "HOST", "ROUTE", "BY", "CONTRACT", "IS", "DETAIL"]);
        let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
        for trial in &self.trials {
            table.row([
                trial.listener.clone(),
                or_none(trial.host.as_deref()),
                or_none(trial.route.as_deref()),
                or_none(trial.protocol),
                trial.contract.to_owned(),
                match trial.outcome {
                    Outcome::Kept => "kept",
                    Outcome::Broken => "BROKEN",
                    Outcome::Untried => "untried",
                }
                .to_owned(),
                trial.detail.clone(),
            ]);
        }
        write!(f, "{table}")?;
        let [kept, broken, untried] =
            [Outcome::Kept, Outcome::Broken, Outcome::Untried].map(|o| self.count(o));
        write!(f, "{kept} kept, {broken} broken, {untried} untried")
    }
}
