//! What the command says.

use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;

use super::Onboard;
use super::plan::Plan;
use super::trial::Trial;
use crate::check::Admission;

/// What was done, or would be.
#[derive(Debug, Serialize)]
pub(super) struct OnboardReport {
    name: String,
    /// Whether anything was written.
    dry_run: bool,
    files: Vec<String>,
    #[serde(flatten)]
    trial: Trial,
    /// Since when it counts; absent if nothing was written.
    pub(super) in_force: Option<InForce>,
}

/// Since when it counts.
#[derive(Debug, Serialize)]
#[serde(tag = "process", rename_all = "snake_case")]
pub(super) enum InForce {
    /// The running process has it.
    #[serde(rename = "running")]
    Now {
        /// The generation that has it.
        generation: u64,
        /// Milliseconds since the command began.
        after_ms: u64,
    },
    /// There is no process to tell.
    #[serde(rename = "none")]
    NextStart {
        /// How that is known.
        why: &'static str,
    },
}

impl InForce {
    pub(super) fn no_process(why: &'static str) -> InForce {
        InForce::NextStart { why }
    }
}

impl OnboardReport {
    pub(super) fn of(arguments: &Onboard, plan: &Plan, trial: Trial) -> OnboardReport {
        OnboardReport {
            name: plan.name.clone(),
            dry_run: arguments.dry_run,
            files: plan.files.iter().map(|(path, _)| path.display().to_string()).collect(),
            trial,
            in_force: None,
        }
    }
}

impl fmt::Display for OnboardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trial { hosts, authorities, clients } = &self.trial;
        writeln!(f, "partner   {}", self.name)?;
        for authority in authorities {
            let until = OffsetDateTime::from_unix_timestamp(authority.not_after_unix);
            let until = until.map_or_else(|_| "?".to_owned(), |moment| moment.date().to_string());
            writeln!(f, "CA        {}, until {until}", authority.subject)?;
        }
        writeln!(f, "hosts     {}", hosts.join(", "))?;
        match self.dry_run {
            true => writeln!(f, "files     {} (not written: --dry-run)", self.files.join(", "))?,
            false => writeln!(f, "files     {}", self.files.join(", "))?,
        }
        if clients.is_empty() {
            writeln!(f, "clients   none was tried: `--cert` takes a certificate of one")?;
        }
        match &self.in_force {
            None => {}
            Some(InForce::Now { generation, after_ms }) => {
                writeln!(f, "in force  generation {generation}, {after_ms} ms after the command began")?;
            }
            Some(InForce::NextStart { why }) => writeln!(f, "in force  with the next start: {why}")?,
        }
        clients.iter().try_for_each(|client: &Admission| write!(f, "{client}"))
    }
}
