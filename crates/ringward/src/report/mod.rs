//! `ringward report`: what those who own trust should look at each week.
//!
//! Three sources, each of which may be missing, and then the report says so: the files of the configuration (`expiries`), the running process
//! (the same), and logs (`lines` reads them, `tally` counts, `incidents` finds what began and ended). Nothing is sent anywhere, and what is in
//! the logs stays in bounded memory however long they are.

mod expiries;
mod incidents;
mod lines;
mod shown;
mod tally;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringward_config::AccessLog;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::expiries::{Expiry, Node};
use self::incidents::Incident;
use self::lines::Source;
use self::tally::Tally;
use crate::check;
use crate::commands::{parse_span, show};
use crate::failure::{EXIT_RUNTIME, Failure};

/// Report what those who own trust should look at: what expires, what has changed, revocation, refused clients, denials by tenant.
///
/// What expires comes from the files of the configuration, from the running process if there is one, and for clients from the access log. The
/// rest comes from logs: the access log of the configuration, if that is a file, and those of `--log`, such as what the process wrote to
/// standard error. Older pieces of a log that was rotated are named, too, unpacked.
///
/// Exit codes: 0, the report is whole. 1, a source could not be read, and the report says which. 2, the configuration is refused, or the command
/// was used wrongly.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// How far back: a span such as `7d`, or a moment such as `2027-03-01T00:00:00Z`.
    #[arg(long, value_name = "SPAN|MOMENT", default_value = "7d", value_parser = parse_since)]
    since: Since,
    /// Until when; by default now.
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    until: Option<i64>,
    /// A log in JSON lines, beside the access log of the configuration; `-` for standard input. May be given several times.
    #[arg(long = "log", value_name = "FILE")]
    logs: Vec<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
enum Since {
    Ago(Duration),
    Moment(i64),
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Weekly {
    /// Seconds since 1970; the first is in the period, the second is not.
    since_unix: i64,
    until_unix: i64,
    /// The configuration that was read.
    config: String,
    /// What the running process says; absent if there is none.
    node: Option<Node>,
    /// Why there is none.
    node_problem: Option<String>,
    logs: Vec<Source>,
    /// The soonest first.
    expiries: Vec<Expiry>,
    /// Absent without a log.
    #[serde(flatten)]
    tally: Option<Tally>,
    incidents: Vec<Incident>,
}

/// Makes the report.
///
/// # Errors
/// If a source could not be read.
pub(crate) fn run(arguments: &Report) -> Result<(), Failure> {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    // The second that is not over counts, too.
    let until = arguments.until.unwrap_or(now + 1);
    let since = match arguments.since {
        Since::Moment(moment) => moment,
        Since::Ago(span) => until - i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
    };
    if since >= until {
        return Err(Failure::Usage("the period is empty: `--since` is not before `--until`".to_owned()));
    }
    let (loaded, _) = check::load(&arguments.config).map_err(Failure::Configuration)?;
    let mut files = Vec::new();
    if let AccessLog::File(file) = &loaded.config.log.access {
        files.push(file.path.clone());
    }
    files.extend(arguments.logs.iter().filter(|file| !files.contains(file)).cloned().collect::<Vec<_>>());
    let mut tally = Tally::new(since, until);
    let logs: Vec<Source> = files.iter().map(|file| lines::read(file, &mut tally)).collect();
    let (node, node_problem) = match Node::ask(&loaded) {
        Ok(node) => (node, None),
        Err(problem) => (None, Some(problem)),
    };
    let mut expiries = expiries::of(&loaded, node.as_ref(), now);
    expiries.extend(tally.take_clients(now));
    expiries.sort_by(|one, other| (one.not_after_unix, &one.name).cmp(&(other.not_after_unix, &other.name)));
    let is_whole = logs.iter().all(|log| log.problem.is_none()) && node_problem.is_none();
    let weekly = Weekly {
        since_unix: since,
        until_unix: until,
        config: arguments.config.display().to_string(),
        node,
        node_problem,
        expiries,
        incidents: tally.take_incidents(),
        tally: logs.iter().any(|log| log.problem.is_none()).then_some(tally),
        logs,
    };
    show(&weekly, arguments.json)?;
    if is_whole { Ok(()) } else { Err(Failure::Reported(EXIT_RUNTIME)) }
}

fn parse_since(text: &str) -> Result<Since, String> {
    parse_span(text).map(Since::Ago).or_else(|_| parse_moment(text).map(Since::Moment))
}

fn parse_moment(text: &str) -> Result<i64, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map(OffsetDateTime::unix_timestamp)
        .map_err(|_| "write a moment such as `2027-03-01T00:00:00Z`, or a span such as `7d`".to_owned())
}
