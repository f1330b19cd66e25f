//! The `ringward` command: an mTLS reverse proxy that asks a policy about every request.
//!
//! Only the command line is in here. `server` puts a serving process together, `control` looks after it.
#![forbid(unsafe_code)]

mod admin;
mod admin_socket;
mod background;
mod cause;
mod check;
mod commands;
mod control;
mod demo;
mod discovery;
mod failure;
mod health;
mod hex;
mod load;
mod logs;
mod memory;
mod onboard;
mod pki;
mod policy_child;
mod prove;
mod publish;
mod reload;
mod report;
mod server;
mod service_manager;
mod sockets;
#[cfg(test)]
mod steady_state;
mod table;
mod terminal;
mod trust;
mod tune;
mod upgrade;
mod upstream_health;
mod version;
mod watch;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::Failure;

/// Every worker allocates and frees its own memory, and what a snapshot frees was allocated elsewhere: an allocator for
/// many threads.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: ringward_testkit::CountingAllocator = ringward_testkit::CountingAllocator;

/// An mTLS reverse proxy: who is calling, by certificate, and does policy let them.
#[derive(Debug, Parser)]
#[command(name = "ringward", version = version_line(), propagate_version = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what this is: makes certificates, an upstream and a proxy with a sample policy, and two requests.
    Demo {
        /// End after the two requests; the exit code says whether the first was allowed and the second denied.
        #[arg(long)]
        once: bool,
        /// Port of the proxy on the loopback interface; 0 takes a free one.
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Serve.
    ///
    /// SIGTERM and SIGINT let connections end and then stop; a second one stops at once. SIGHUP reads the configuration and
    /// all files again, which also happens by itself when they change; `ringward reload` asks for that, too, and says what came of
    /// it. `ringward upgrade` replaces the process by one of the program on disk, without a connection lost.
    ///
    /// Exit codes: 0, it has stopped because it was told to, also if connections had to be cut. 1, something failed at run time:
    /// start it again. 2, the configuration, a file that it names, an address or a socket from the service manager is refused, and
    /// will be again until somebody changes that.
    ///
    /// Started by systemd (NOTIFY_SOCKET), it tells when it serves, reloads and drains, and feeds the watchdog (WATCHDOG_USEC) while
    /// the control plane and all workers answer. Sockets of a socket unit (LISTEN_FDS) take the place of those that it would open: a
    /// listener takes those whose FileDescriptorName= is its `name`, else those that have an address of its `bind`; one that no
    /// listener takes is refused. Their queue is that of the unit (Backlog=).
    Run {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Take over from the process that has started this one; standard input is a socket to it.
        #[arg(long, hide = true)]
        successor: bool,
    },
    /// Check a configuration and everything that it names, all problems at once.
    Check {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// The certificate of a client, to see where it is admitted, as whom, and what policies say to it; PEM, with its
        /// intermediates. May be given several times.
        #[arg(long = "cert", value_name = "FILE")]
        clients: Vec<PathBuf>,
        /// Run the configuration for a moment, on loopback addresses and with certificates made for the occasion, and try whether clients
        /// can say by header fields, trailers or the PROXY protocol who they are, and listed load balancers as configured. Fails if a
        /// part of that is not as it has to be (exit code 2).
        #[arg(long, conflicts_with = "clients")]
        forwarding: bool,
        /// The name of a field that upstreams trust, such as `x-real-ip`: no client may get through with one of its own. May be given
        /// several times.
        #[arg(long = "upstream-trusts", value_name = "FIELD", requires = "forwarding", value_parser = field_name)]
        trusted: Vec<String>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what a client has proved at the least when a route serves it, for every name that it can give in its handshake and
    /// ask for.
    ///
    /// Fails if that is less than `require` of a host or route says (exit code 2), or if the configuration is refused. What policies
    /// would say is not looked at.
    Prove {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    Onboard(onboard::Onboard),
    Reload(commands::reload::Reload),
    Upgrade(commands::upgrade::Upgrade),
    Route(Box<commands::route::RouteQuestion>),
    Revoke(Box<commands::revoke::Revoke>),
    Report(report::Report),
    #[command(subcommand)]
    Trust(commands::trust::TrustCommand),
    #[command(subcommand)]
    Keys(commands::keys::KeysCommand),
    #[command(subcommand)]
    Policy(commands::policy::PolicyCommand),
    /// Make certificates for development.
    #[command(subcommand)]
    Pki(Pki),
    Tune(tune::Tune),
    Help(commands::help::Help),
    /// Check a policy that is given on standard input, as a child process of `run`, `check` and `policy`.
    #[command(name = policy_child::SUBCOMMAND, hide = true)]
    PolicyCheckChild {
        cpu_seconds: u64,
        memory_bytes: u64,
    },
}

#[derive(Debug, Subcommand)]
enum Pki {
    /// Make a CA, a server certificate and a few clients. Not for production: the keys are not protected.
    Dev {
        /// The directory; made if it is missing.
        dir: PathBuf,
        /// A host name or IP address of the server; may be given several times.
        #[arg(long = "name", value_name = "NAME", default_values = pki::SERVER_NAMES)]
        names: Vec<String>,
    },
}

/// The name of a header field, in lower case (RFC 9110 §5.6.2).
fn field_name(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_token) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("a header field has no such name".to_owned()),
    }
}

/// For `--version`.
fn version_line() -> &'static str {
    static LINE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{} (revision {}, {}, {})",
            version::VERSION,
            version::REVISION,
            version::ARCHITECTURE,
            version::PROFILE
        )
    });
    &LINE
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { once, port } => demo::run(once, port),
        Command::Run { config, successor: false } => {
            server::Server::start_as_service(&config).and_then(server::Server::serve)
        }
        Command::Run { config, successor: true } => {
            server::Server::start_as_successor(&config).and_then(server::Server::serve)
        }
        Command::Check { config, forwarding: true, trusted, json, .. } => {
            check::forwarding::run(&config, &trusted, json)
        }
        Command::Check { config, clients, json, .. } => check::run(&config, &clients, json),
        Command::Prove { config, json } => prove::run(&config, json),
        Command::Onboard(arguments) => onboard::run(&arguments),
        Command::Reload(arguments) => commands::reload::run(&arguments),
        Command::Upgrade(arguments) => commands::upgrade::run(&arguments),
        Command::Route(question) => commands::route::run(&question),
        Command::Report(arguments) => report::run(&arguments),
        Command::Revoke(arguments) => commands::revoke::run(&arguments),
        Command::Trust(command) => commands::trust::run(&command),
        Command::Keys(command) => commands::keys::run(&command),
        Command::Policy(command) => commands::policy::run(&command),
        Command::Pki(Pki::Dev { dir, names }) => pki::command(&dir, &names),
        Command::Tune(arguments) => tune::run(&arguments),
        Command::Help(arguments) => commands::help::run(&arguments, Arguments::command()),
        Command::PolicyCheckChild { cpu_seconds, memory_bytes } => {
            return policy_child::run_child(cpu_seconds, memory_bytes);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Reported(_)) {
                terminal::complain(&failure);
            }
            failure.exit_code()
        }
    }
}
