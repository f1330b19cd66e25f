//! Everything that is fetched, put together: revocation lists, OCSP answers about clients, and staples of our own certificates.
//!
//! Before a process serves, it takes back what its predecessor knew and tries once to get what it needs; afterwards each
//! keeper works for itself, for as long as the process lives. Servers that do not answer delay the start, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use ringward_config::Diagnostics;
use ringward_telemetry::ControlMetrics;
use ringward_tls::Sightings;

use super::TrustKeeper;
use super::clock::Clock;
use super::crl::{CRL_FETCH, CrlKeeper, CrlSettings, copies};
use super::fetch::Fetcher;
use super::ocsp::{OcspKeeper, OcspSettings};
use super::responder::OCSP_FETCH;
use super::staple::{self, STAPLE_FETCH, Shop, StapleKeeper, Wanted};
use crate::control::Services;
use crate::load::Loaded;

/// The keepers of what is fetched.
pub(crate) struct Network {
    trust: Arc<TrustKeeper>,
    lists: CrlKeeper,
    ocsp: OcspKeeper,
    staples: StapleKeeper,
    preparation: Preparation,
}

/// What has to be there before a configuration goes into force.
#[derive(Clone)]
pub(crate) struct Preparation {
    shop: Shop,
}

impl Network {
    /// Nothing is fetched yet. To be called within a runtime.
    pub(crate) fn new(
        trust: Arc<TrustKeeper>,
        metrics: &Arc<ControlMetrics>,
        sightings: Sightings,
    ) -> Network {
        let clock = Clock::system();
        let shop = Shop::new(trust.clone(), Fetcher::new(STAPLE_FETCH), clock.clone());
        Network {
            lists: CrlKeeper::new(
                trust.clone(),
                metrics.clone(),
                sightings,
                Fetcher::new(CRL_FETCH),
                clock.clone(),
            ),
            ocsp: OcspKeeper::new(trust.clone(), metrics.clone(), Fetcher::new(OCSP_FETCH), clock),
            staples: StapleKeeper::new(shop.clone(), metrics.clone()),
            preparation: Preparation { shop },
            trust,
        }
    }

    /// For whoever puts configurations in force.
    pub(crate) fn preparation(&self) -> Preparation {
        self.preparation.clone()
    }

    /// Takes back what is on disk, and gets what is needed before the first client comes.
    ///
    /// # Errors
    /// Which certificates of ours must not serve.
    pub(crate) async fn before_serving(&mut self, loaded: &Loaded) -> Result<(), Diagnostics> {
        self.lists.configure(CrlSettings::of(loaded));
        if let Some(state) = self.trust.state_dir().cloned() {
            let (trust, now_unix) = (self.trust.clone(), Clock::system().now_unix());
            let read = move || copies::read_all(&state, trust.floors(), now_unix);
            match tokio::task::spawn_blocking(read).await {
                Ok(Ok(copies)) => self.lists.restore(copies),
                Ok(Err(error)) => tracing::error!(%error, "the copies of revocation lists cannot be read"),
                Err(error) => tracing::error!(%error, "the copies of revocation lists cannot be read"),
            }
        }
        self.ocsp.configure(OcspSettings::of(loaded));
        let lists = tokio::time::timeout(FIRST_ROUND_TIMEOUT, self.lists.first_round());
        let (lists, prepared) = tokio::join!(lists, self.preparation.prepare(loaded, &[]));
        // Clients of bundles that need a list are refused until it is there.
        if lists.is_err() {
            tracing::warn!("serving begins before all revocation lists were fetched: their servers are slow");
        }
        self.staples.configure(Wanted::of(loaded));
        prepared
    }

    /// Goes on for as long as the process lives.
    pub(crate) fn start(self, services: &mut Services) {
        services.start_of_the_serving("keeper of revocation lists", ended(self.lists.run()));
        services.start_of_the_serving("keeper of OCSP answers", ended(self.ocsp.run()));
        services.start_of_the_serving("keeper of staples", ended(self.staples.run()));
    }
}

impl Preparation {
    /// Gets what a configuration must not go into force without. `serving` are the certificates, by SHA-256 of the leaf, that
    /// serve already.
    ///
    /// # Errors
    /// Which certificates must not serve.
    pub(crate) async fn prepare(&self, loaded: &Loaded, serving: &[[u8; 32]]) -> Result<(), Diagnostics> {
        self.shop.verify_https_by(loaded.fetch_tls.as_ref());
        staple::prepare(&self.shop, &loaded.config, &Wanted::of(loaded), serving, STAPLE_WAIT).await
    }
}

async fn ended(keeper: impl Future<Output = ()>) -> &'static str {
    keeper.await;
    "it ended"
}

/// As long as a service manager waits without a worry.
const FIRST_ROUND_TIMEOUT: Duration = Duration::from_secs(10);
/// A responder answers within a second or is down.
const STAPLE_WAIT: Duration = Duration::from_secs(10);
