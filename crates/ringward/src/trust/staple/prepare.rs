//! Before a configuration goes into force: staples that are on disk, and those without which a certificate must not serve.

use std::sync::Arc;
use std::time::Duration;

use ringward_config::{Config, Diagnostic, Diagnostics, Severity};
use ringward_tls::Staple;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::plan::{NO_RESPONDER, Source, Wanted};
use super::{Shop, read_copy};

/// Takes back the staples of an earlier process, and fetches those that certificates demand (TLS feature status_request,
/// RFC 7633) unless they serve already. Waits for `wait` at the longest.
///
/// # Errors
/// Which certificates would go into service without the staple that they demand.
pub(crate) async fn prepare(
    shop: &Shop,
    config: &Config,
    wanted: &[Wanted],
    serving: &[[u8; 32]],
    wait: Duration,
) -> Result<(), Diagnostics> {
    restore(shop, wanted).await;
    let deadline = Instant::now() + wait;
    let mut jobs = JoinSet::new();
    let mut problems = Diagnostics::new();
    for wanted in wanted {
        // Once in service, it is better than none.
        let is_serving = serving.contains(wanted.credential.fingerprint_sha256());
        if is_serving || !wanted.credential.requires_staple() || is_stapled(shop, wanted) {
            continue;
        }
        let (shop, wanted) = (shop.clone(), wanted.clone());
        jobs.spawn(async move {
            let result = first(&shop, &wanted, deadline).await;
            (wanted, result)
        });
    }
    while let Some(done) = jobs.join_next().await {
        match done {
            Ok((_, Ok(()))) => {}
            Ok((wanted, Err(reason))) => problems.push(refused(config, &wanted, &reason)),
            Err(error) => problems.push(Diagnostic::whole_file(config.file(), error.to_string(), None)),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// What is on disk and not in use yet.
async fn restore(shop: &Shop, wanted: &[Wanted]) {
    let Some(state) = shop.trust.state_dir().cloned() else { return };
    let (_, known) = shop.trust.current();
    let missing: Vec<_> = wanted
        .iter()
        .filter(|wanted| matches!(wanted.source, Source::Fetch(_)))
        .map(|wanted| wanted.credential.clone())
        .filter(|credential| !known.staples.contains_key(credential.fingerprint_sha256()))
        .collect();
    let now = shop.clock.now_unix();
    let read = tokio::task::spawn_blocking(move || {
        missing.iter().filter_map(|credential| read_copy(&state, credential, now)).collect::<Vec<_>>()
    });
    take(shop, read.await.unwrap_or_default());
}

/// Tries until there is a staple or no time left.
async fn first(shop: &Shop, wanted: &Wanted, deadline: Instant) -> Result<(), String> {
    let responder = match &wanted.source {
        Source::Fetch(Some(responder)) => responder,
        Source::Fetch(None) => return Err(NO_RESPONDER.to_owned()),
        Source::File(_) => return Err("the staple of the file cannot be shown".to_owned()),
    };
    let mut failure = "there was no time to ask".to_owned();
    loop {
        match tokio::time::timeout_at(deadline, shop.fetch(&wanted.credential, responder)).await {
            Ok(Ok(staple)) if shop.clock.now_unix() < staple.usable_until_unix() => {
                take(shop, vec![staple]);
                return Ok(());
            }
            Ok(Ok(_)) => failure = "the staple is about to end already".to_owned(),
            Ok(Err(error)) => failure = error.to_string(),
            Err(_) => return Err(failure),
        }
        if Instant::now() + PAUSE >= deadline {
            return Err(failure);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn take(shop: &Shop, staples: Vec<Arc<Staple>>) {
    if staples.is_empty() {
        return;
    }
    shop.trust.update(|state| {
        let known = Arc::make_mut(&mut state.staples);
        known.extend(staples.into_iter().map(|staple| (*staple.leaf_sha256(), staple)));
    });
}

fn is_stapled(shop: &Shop, wanted: &Wanted) -> bool {
    let (_, known) = shop.trust.current();
    let staple = match &wanted.source {
        Source::File(staple) => staple.as_ref(),
        Source::Fetch(_) => known.staples.get(wanted.credential.fingerprint_sha256()),
    };
    staple.is_some_and(|staple| shop.clock.now_unix() < staple.usable_until_unix())
}

fn refused(config: &Config, wanted: &Wanted, reason: &str) -> Diagnostic {
    let message = format!(
        "the certificate of `{}` demands an OCSP staple, and there is none: {reason}; clients would refuse it",
        wanted.host
    );
    let help = "see that its responder answers, or use a certificate without the TLS feature status_request";
    let mut diagnostic = config.diagnostic(Severity::Error, &wanted.at, message);
    diagnostic.help = Some(help.to_owned());
    diagnostic
}

/// Between attempts.
const PAUSE: Duration = Duration::from_millis(500);
