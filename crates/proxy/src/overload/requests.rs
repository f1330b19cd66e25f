//! Which requests are in work, and which wait for that.
//!
//! A request counts once its route is known, so that what it waits for is bounded by its own time limit as well, and until its
//! response has ended or it has become a tunnel. While it waits, nothing of its body has been read and nobody was asked about it, so
//! nothing grows old meanwhile.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use ringward_config as config;
use ringward_telemetry::{ListenerId, Shard, Shed};

use super::places::{NoPlace, Place, Places, Rank, Rules};
use crate::{
    client_side::ClientSide, connection::Connection, error::ProxyError, route::Target, snapshot::Listener,
    time_limit::TimeLimit,
};

/// The requests of one listener on one worker.
pub(crate) struct Requests {
    workers: usize,
    places: Rc<Places>,
    /// Metrics were told of some.
    told: Cell<bool>,
}

impl Requests {
    /// Of one of `workers`.
    pub(crate) fn new(workers: usize) -> Rc<Requests> {
        Rc::new(Requests { workers, places: Places::new(), told: Cell::new(false) })
    }

    /// A place for a request that does not have to wait.
    pub(crate) fn enter(&self, limits: &config::Requests) -> Option<Place> {
        self.places.set(self.rules(limits));
        self.places.enter(RANK, self.places.now())
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`ProxyError::RequestQueueFull`], [`ProxyError::RequestQueueTimeout`]; that the request's own time is over, or its client gone.
    pub(crate) async fn wait(
        &self,
        limits: &config::Requests,
        connection: &Connection,
        client: &impl ClientSide,
        time: &TimeLimit,
    ) -> Result<Place, ProxyError> {
        let told = (&connection.worker.shard, connection.facts.listener);
        let Ok(mut wait) = self.places.wait(RANK, self.places.now(), Some(client.socket())) else {
            told.0.request_shed(told.1, Shed::QueueFull);
            return Err(ProxyError::RequestQueueFull);
        };
        told.0.request_queued(told.1);
        let mut waiting = Waiting { told, unless_let_in: Some(Shed::ClientGone) };
        let ended = {
            let own = client.deadline();
            let ended = pin!(poll_fn(|cx| match Pin::new(&mut wait).poll(cx) {
                // Nothing else notices that we have cut the connection ourselves.
                Poll::Pending => own.poll_cut(cx).map(|()| Err(NoPlace::Gone)),
                ended => ended,
            }));
            time.bound(&connection.worker.deadlines, ended).await
        };
        let (shed, error) = match ended {
            Ok(Ok(place)) => {
                waiting.unless_let_in = None;
                return Ok(place);
            }
            Ok(Err(NoPlace::QueueFull | NoPlace::Overdue)) => {
                (Shed::QueueTimeout, ProxyError::RequestQueueTimeout(limits.queue_timeout))
            }
            Ok(Err(NoPlace::Gone)) => {
                (Shed::ClientGone, connection.standing.withdrawn().unwrap_or(ProxyError::ClientGone))
            }
            Err(over) => (Shed::RequestTimeout, over),
        };
        waiting.unless_let_in = Some(shed);
        Err(error)
    }

    /// Lets those in whose turn it is, and tells metrics; to be called at each beat. Without limits everybody is let in.
    pub(crate) fn beat(&self, listener: Option<&Listener>, shard: &Shard) {
        let limits = listener.and_then(|listener| listener.requests.as_ref());
        if !self.places.is_idle() {
            self.places.set(limits.map_or(Rules::NONE, |limits| self.rules(limits)));
            self.places.beat(self.places.now());
        }
        let Some(listener) = listener.filter(|_| limits.is_some() || self.told.get()) else { return };
        let (active, waiting) = self.places.counts();
        shard.requests_load(listener.id, active as u64, waiting as u64);
        self.told.set(active + waiting > 0);
    }

    /// This worker's share.
    fn rules(&self, limits: &config::Requests) -> Rules {
        Rules {
            places: limits.concurrent_max.div_ceil(self.workers),
            rate: None,
            queue_max: limits.queue_max.div_ceil(self.workers),
            patience: limits.queue_timeout,
        }
    }
}

/// Whether requests for this count: what we answer ourselves takes nobody's time, and tells load balancers that we are there.
pub(crate) fn counts(target: &Target<'_>) -> bool {
    target.route.answer.is_none() && !(target.is_preflight && target.route.cors().is_some())
}

/// A request that waits. What it is counted as when that ends, however it ends: an exchange that is called off is dropped.
struct Waiting<'s> {
    told: (&'s Shard, ListenerId),
    unless_let_in: Option<Shed>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(reason) = self.unless_let_in {
            self.told.0.request_shed(self.told.1, reason);
        }
    }
}

/// All requests are equal.
const RANK: Rank = Rank::Known;
