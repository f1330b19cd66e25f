//! `ringward policy`: for authors of policies. Checks, tests, evaluates, explains and measures a policy without serving.
//!
//! Nothing is evaluated in this process: a child does it, within the bounds in which `run` has policies checked, since what
//! somebody is still writing hangs and crashes more than what is in service.

mod check;
mod coverage;
mod eval;
mod measure;
mod schema;
mod source;
mod test;

use clap::Subcommand;

use self::source::PolicySource;
use crate::failure::Failure;

/// Check, test, evaluate, explain and measure a policy, without serving anything.
///
/// Exit code 0 if all is well, 1 if a test failed, a threshold was missed or there is no decision, 2 if the policy or the
/// input is refused.
/// `--json` prints an object with `ok`; with `ok` false and `problems` if the policy is refused.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Find everything that is wrong with a policy, and what it reads.
    ///
    /// Runs what `ringward run` runs before a policy is put to use, the policy's tests included.
    Check(PolicySource),
    Test(test::Arguments),
    Eval(eval::Arguments),
    Coverage(coverage::Arguments),
    Bench(measure::Arguments),
    Schema(schema::Arguments),
}

/// Runs the command.
///
/// # Errors
/// If the policy is refused, or something else that the command is there to find was found.
pub(crate) fn run(command: &PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check(source) => check::run(source),
        PolicyCommand::Test(arguments) => test::run(arguments),
        PolicyCommand::Eval(arguments) => eval::run(arguments),
        PolicyCommand::Coverage(arguments) => coverage::run(arguments),
        PolicyCommand::Bench(arguments) => measure::run(arguments),
        PolicyCommand::Schema(arguments) => schema::run(arguments),
    }
}
