//! Does the configuration stand with the partner, and are the partner's clients admitted as theirs?

use std::sync::Arc;

use ringward_config::{ClientAuthMode, Config, Host};
use serde::Serialize;

use super::Onboard;
use super::plan::Plan;
use crate::check::{self, Admission};
use crate::failure::Failure;

/// What would be with the partner.
#[derive(Debug, Serialize)]
pub(super) struct Trial {
    /// Hosts that admit clients of the partner's CA, as `listener: host`.
    pub(super) hosts: Vec<String>,
    /// The CAs.
    pub(super) authorities: Vec<Authority>,
    /// What becomes of the certificates.
    pub(super) clients: Vec<Admission>,
}

#[derive(Debug, Serialize)]
pub(super) struct Authority {
    pub(super) subject: String,
    pub(super) not_after_unix: i64,
}

/// Tries it; also the configuration as it would be. Nothing is written.
///
/// # Errors
/// If the configuration is refused with the partner, no host admits the clients, or a certificate is not admitted as the partner's.
pub(super) fn of(arguments: &Onboard, plan: &Plan) -> Result<(Trial, Arc<Config>), Failure> {
    let name = &plan.name;
    let load = |change: fn(&mut Config)| {
        check::load_with(&arguments.config, plan.staged(), change).map_err(Failure::Configuration)
    };
    let (loaded, snapshot) = load(|_| {})?;
    let bundle = loaded.materials.trust.get(name.as_str());
    let authorities = bundle.map(|bundle| bundle.anchors()).unwrap_or_default().iter();
    let authorities = authorities.map(|authority| Authority {
        subject: authority.subject.clone(),
        not_after_unix: authority.not_after_unix,
    });
    let authorities = authorities.collect();
    let left_out = loaded.quarantined.get(name).into_iter().flatten();
    if let Some(reason) = left_out.into_iter().next() {
        return Err(Failure::Usage(format!("`{}` cannot be used whole: {reason}", arguments.ca.display())));
    }
    let mut hosts = Vec::new();
    for listener in &loaded.config.listeners {
        for host in &listener.hosts {
            let trusts = host.client_auth.verification().is_some_and(|rules| rules.trust.contains(name));
            if trusts {
                hosts.push(format!("{}: {}", listener.name, host.names[0]));
            }
        }
    }
    if hosts.is_empty() {
        return Err(Failure::Usage(format!(
            "no host admits clients of {name:?}: name it in `trust` of a host's client_auth, or how such names begin, \
             as in trust = [\"partner-*\"]; or give a [[host]] of its own with `--with`"
        )));
    }
    let config = Arc::clone(&loaded.config);
    // A host that only observes admits nobody as anybody. What counts is what it would do.
    let (loaded, snapshot) = match config.listeners.iter().flat_map(|listener| &listener.hosts).any(observes)
    {
        true => load(enforce)?,
        false => (loaded, snapshot),
    };
    let clients = arguments.certificates.iter().map(|file| Admission::of(file, &loaded, &snapshot));
    let clients = clients.collect::<Result<Vec<Admission>, Failure>>()?;
    for (file, client) in arguments.certificates.iter().zip(&clients) {
        if !client.is_client_of(name, name) {
            let refusals: Vec<String> =
                client.refusals().map(|(host, why)| format!("\n  {host}: {why}")).collect();
            return Err(Failure::Usage(format!(
                "`{}` would not be a client of {name:?} at any host, nothing was written{}",
                file.display(),
                refusals.concat()
            )));
        }
    }
    let trial = Trial { hosts, authorities, clients };
    Ok((trial, config))
}

fn observes(host: &Host) -> bool {
    host.client_auth.handshake == ClientAuthMode::Observe
}

/// As if every host that observes required certificates.
fn enforce(config: &mut Config) {
    for host in
        config.listeners.iter_mut().flat_map(|listener| &mut listener.hosts).filter(|host| observes(host))
    {
        host.client_auth.handshake = ClientAuthMode::Required;
        for route in host.routes.iter_mut().filter(|route| route.client_auth == ClientAuthMode::Observe) {
            route.client_auth = ClientAuthMode::Required;
        }
    }
}
