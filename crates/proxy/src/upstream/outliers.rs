//! What requests find out about endpoints: failures in a row, of which the control plane learns when there are too many.
//!
//! All workers count in one place, so that a row is one of the whole node. A worker whose requests succeed reads that place and
//! does not write to it, so that it stays in every core's cache: only who fails pays.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
};

use arc_swap::ArcSwap;
use ringward_config::{EndpointAddr, OutlierDetection};
use ringward_telemetry::{GrpcStatus, OutlierReason};
use ringward_tls::UpstreamTlsReason;
use tokio::sync::Notify;

use super::http2::AllFull;
use crate::error::{ProxyError, Side};

/// What is known of an endpoint by the requests that it got. Shared by all workers.
#[derive(Debug, Default)]
pub struct Conduct {
    /// In a row.
    failures: AtomicU32,
    /// The last one of too many, as 1 + [`OutlierReason`]; 0 while there are not.
    suspicion: AtomicU8,
}

/// The endpoints of a cluster whose failures count.
#[derive(Debug)]
pub(super) struct Outliers {
    rule: OutlierDetection,
    endpoints: ArcSwap<HashMap<EndpointAddr, Arc<Conduct>>>,
    /// Told when there are too many.
    suspects: Arc<Notify>,
}

impl Conduct {
    /// Why it should be ejected, if it should; to be asked once.
    pub fn take_suspicion(&self) -> Option<OutlierReason> {
        let known = self.suspicion.swap(0, Ordering::AcqRel);
        OutlierReason::ALL.get(usize::from(known.checked_sub(1)?)).copied()
    }

    /// Forgets its failures.
    pub fn forgive(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.suspicion.store(0, Ordering::Release);
    }

    /// Whether this failure makes it a suspect, which it was not.
    fn failed(&self, reason: OutlierReason, allowed: u32) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        failures >= allowed && self.suspicion.swap(1 + reason as u8, Ordering::AcqRel) == 0
    }

    fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }
}

impl Outliers {
    pub(super) fn new(rule: OutlierDetection, suspects: Arc<Notify>) -> Outliers {
        Outliers { rule, endpoints: ArcSwap::default(), suspects }
    }

    /// These count from now on.
    pub(super) fn watch(&self, endpoints: HashMap<EndpointAddr, Arc<Conduct>>) {
        self.endpoints.store(Arc::new(endpoints));
    }

    /// An endpoint has answered with this status, `grpc` if it was a call of gRPC.
    pub(super) fn answered(&self, addr: &EndpointAddr, status: u16, grpc: Option<GrpcStatus>) {
        let status = grpc.and_then(status_of).unwrap_or(status);
        if self.rule.statuses.iter().any(|range| range.contains(&status)) {
            self.count(addr, OutlierReason::Status);
        } else if let Some(conduct) = self.endpoints.load().get(addr) {
            conduct.succeeded();
        }
    }

    /// A request to an endpoint has failed.
    pub(super) fn failed(&self, addr: &EndpointAddr, error: &ProxyError) {
        match error {
            // Asked for again by the rules of retries, which may be others.
            ProxyError::UpstreamStatus(status) => self.answered(addr, *status, None),
            error => reason(error).into_iter().for_each(|reason| self.count(addr, reason)),
        }
    }

    fn count(&self, addr: &EndpointAddr, reason: OutlierReason) {
        let endpoints = self.endpoints.load();
        if endpoints.get(addr).is_some_and(|conduct| conduct.failed(reason, self.rule.consecutive_failures)) {
            self.suspects.notify_one();
        }
    }
}

/// What the failure says of the endpoint, if it says anything.
fn reason(error: &ProxyError) -> Option<OutlierReason> {
    Some(match error {
        // It ends its connections in peace, perhaps because it is restarted.
        ProxyError::UpstreamUnprocessed(_) => return None,
        // It is free not to take up what a client asks for.
        ProxyError::UpstreamUpgrade(_) => return None,
        ProxyError::UpstreamTls(failure) if failure.reason == UpstreamTlsReason::AlpnRefused => return None,
        ProxyError::Connect { source, .. } if is_our_own(source) => return None,
        ProxyError::Connect { .. } => OutlierReason::Connect,
        ProxyError::UpstreamTls(_) => OutlierReason::Tls,
        ProxyError::UpstreamTimeout(_) => OutlierReason::Timeout,
        ProxyError::UpstreamClosed
        | ProxyError::UpstreamReset(_)
        | ProxyError::UpstreamStreamReset(_)
        | ProxyError::UpstreamTruncated { .. } => OutlierReason::Reset,
        error if error.side() == Side::Upstream => OutlierReason::Protocol,
        _ => return None,
    })
}

/// This machine had no descriptor, port or memory for a connection, or the configuration allows no other.
fn is_our_own(error: &io::Error) -> bool {
    if error.get_ref().is_some_and(|cause| cause.is::<AllFull>()) {
        return true;
    }
    let ours = [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| ours.contains(&code))
}

/// The status that stands for one of gRPC that may be the endpoint's fault. `DEADLINE_EXCEEDED` is none: the client's time was up.
fn status_of(grpc: GrpcStatus) -> Option<u16> {
    match grpc {
        GrpcStatus::Unavailable => Some(503),
        GrpcStatus::Unknown | GrpcStatus::Internal | GrpcStatus::DataLoss => Some(500),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use ringward_tls::UpstreamTlsFailure;

    use super::*;

    fn addr() -> EndpointAddr {
        EndpointAddr::Unix("/run/app.sock".into())
    }

    fn outliers(consecutive_failures: u32) -> (Outliers, Arc<Conduct>) {
        let rule = OutlierDetection {
            consecutive_failures,
            statuses: vec![502..=504],
            ejection_time: Duration::from_secs(30),
            ejection_time_max: Duration::from_secs(300),
            ejected_percent_max: 50,
        };
        let (outliers, conduct) = (Outliers::new(rule, Arc::default()), Arc::new(Conduct::default()));
        outliers.watch(HashMap::from([(addr(), conduct.clone())]));
        (outliers, conduct)
    }

    #[test]
    fn failures_in_a_row_make_a_suspect_once() {
        let (outliers, conduct) = outliers(3);
        for status in [503, 502, 200, 504, 500, 503, 503] {
            outliers.answered(&addr(), status, None);
        }
        assert_eq!(conduct.take_suspicion(), None, "two in a row");
        outliers.failed(&addr(), &ProxyError::UpstreamClosed);
        outliers.failed(&addr(), &ProxyError::ClientGone);
        assert_eq!(conduct.take_suspicion(), Some(OutlierReason::Reset));
        assert_eq!(conduct.take_suspicion(), None);
        conduct.forgive();
        outliers.answered(&addr(), 503, None);
        outliers.answered(&addr(), 503, None);
        assert_eq!(conduct.take_suspicion(), None, "they count anew");
    }

    #[test]
    fn calls_count_by_their_own_status() {
        for (grpc, suspect) in [
            (GrpcStatus::Unavailable, true),
            (GrpcStatus::DeadlineExceeded, false),
            (GrpcStatus::Internal, false),
            (GrpcStatus::NotFound, false),
        ] {
            let (outliers, conduct) = outliers(1);
            outliers.answered(&addr(), 200, Some(grpc));
            assert_eq!(conduct.take_suspicion().is_some(), suspect, "{grpc:?}");
        }
    }

    #[test]
    fn what_this_machine_lacks_is_no_fault_of_an_endpoint() {
        for (code, suspect) in
            [(libc::EMFILE, false), (libc::EADDRNOTAVAIL, false), (libc::ECONNREFUSED, true)]
        {
            let (outliers, conduct) = outliers(1);
            let source = io::Error::from_raw_os_error(code);
            outliers.failed(&addr(), &ProxyError::Connect { addr: addr(), source });
            assert_eq!(conduct.take_suspicion().is_some(), suspect, "{code}");
        }
    }

    /// Else clients could have endpoints ejected by what they ask for.
    #[test]
    fn what_clients_can_bring_about_is_no_fault_of_an_endpoint() {
        let full = io::Error::new(io::ErrorKind::TimedOut, AllFull);
        let refused =
            UpstreamTlsFailure::new(UpstreamTlsReason::AlpnRefused, "it agreed to HTTP/1.1".to_owned());
        for error in [
            ProxyError::UpstreamUpgrade("it answers 200"),
            ProxyError::Connect { addr: addr(), source: full },
            ProxyError::UpstreamTls(refused),
        ] {
            let (outliers, conduct) = outliers(1);
            outliers.failed(&addr(), &error);
            assert_eq!(conduct.take_suspicion(), None, "{error}");
        }
    }

    #[test]
    fn what_workers_see_adds_up_whatever_their_number() {
        for workers in 1..=9 {
            let (outliers, conduct) = outliers(workers * 100);
            thread::scope(|scope| {
                for _ in 0..workers {
                    scope.spawn(|| (0..99).for_each(|_| outliers.answered(&addr(), 503, None)));
                }
            });
            assert_eq!(conduct.take_suspicion(), None);
            (0..workers).for_each(|_| outliers.answered(&addr(), 503, None));
            assert_eq!(conduct.take_suspicion(), Some(OutlierReason::Status), "{workers}");
        }
    }
}
