//! Circuit breaking: a server that does not answer is not asked for a while.
//!
//! Without it, each request would wait for the whole timeout and hold a place meanwhile. Closed: all ask. Open: nobody does.
//! When that time is over one question is the probe, alone, and decides whether it closes or stays open as long again.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// The state of one server as one worker sees it.
#[derive(Debug)]
pub(super) struct Circuit {
    failures_to_open: u32,
    open_for: Duration,
    state: Cell<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// With how many failures in a row there were.
    Closed(u32),
    Open {
        until: Instant,
    },
    Probing,
}

/// What a question did to the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
}

/// Leave to ask. Without a word on how it went it changes nothing.
#[derive(Debug)]
#[must_use = "how it went is what the circuit is about"]
pub(super) struct Pass<'c> {
    circuit: &'c Circuit,
    /// For the probe: when the time was over that it ends.
    probes_since: Option<Instant>,
}

impl Circuit {
    pub(super) fn new(failures_to_open: u32, open_for: Duration) -> Circuit {
        Circuit { failures_to_open, open_for, state: Cell::new(State::Closed(0)) }
    }

    /// Leave to ask at the time `now`, if it is given.
    pub(super) fn enter(&self, now: Instant) -> Option<Pass<'_>> {
        match self.state.get() {
            State::Closed(_) => Some(Pass { circuit: self, probes_since: None }),
            State::Open { until } if until <= now => {
                self.state.set(State::Probing);
                Some(Pass { circuit: self, probes_since: Some(until) })
            }
            State::Open { .. } | State::Probing => None,
        }
    }

    /// Whether questions are held back.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state.get(), State::Closed(_))
    }
}

impl Pass<'_> {
    /// There was an answer.
    pub(super) fn answered(mut self) -> Option<Change> {
        let state = &self.circuit.state;
        match (self.probes_since.take(), state.get()) {
            (Some(_), _) => {
                state.set(State::Closed(0));
                Some(Change::Closed)
            }
            (None, State::Closed(_)) => {
                state.set(State::Closed(0));
                None
            }
            // Asked before it opened: an answer that late is not what the probe asks for.
            (None, _) => None,
        }
    }

    /// There was none, as is clear at the time `now`.
    pub(super) fn failed(mut self, now: Instant) -> Option<Change> {
        let Circuit { failures_to_open, open_for, state } = self.circuit;
        let open = State::Open { until: now + *open_for };
        match (self.probes_since.take(), state.get()) {
            (Some(_), _) => {
                state.set(open);
                None
            }
            (None, State::Closed(failures)) if failures + 1 >= *failures_to_open => {
                state.set(open);
                Some(Change::Opened)
            }
            (None, State::Closed(failures)) => {
                state.set(State::Closed(failures + 1));
                None
            }
            (None, _) => None,
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        // A probe that was given up has found out nothing: the next question is the probe.
        if let Some(until) = self.probes_since {
            self.circuit.state.set(State::Open { until });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(1);

    fn circuit() -> (Circuit, Instant) {
        (Circuit::new(3, OPEN_FOR), Instant::now())
    }

    fn opened() -> (Circuit, Instant) {
        let (circuit, now) = circuit();
        for change in [None, None, Some(Change::Opened)] {
            assert_eq!(circuit.enter(now).unwrap().failed(now), change);
        }
        assert!(circuit.is_open());
        (circuit, now)
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (circuit, now) = circuit();
        for _ in 0..10 {
            assert_eq!(circuit.enter(now).unwrap().failed(now), None);
            assert_eq!(circuit.enter(now).unwrap().failed(now), None);
            assert_eq!(circuit.enter(now).unwrap().answered(), None);
        }
        assert!(!circuit.is_open());
        // What nobody knows the end of counts for neither.
        drop(circuit.enter(now));
        assert_eq!(circuit.enter(now).unwrap().failed(now), None);
        drop(circuit.enter(now));
        assert_eq!(circuit.enter(now).unwrap().failed(now), None);
        assert_eq!(circuit.enter(now).unwrap().failed(now), Some(Change::Opened));
    }

    #[test]
    fn it_holds_everybody_back_until_its_time_is_over() {
        let (circuit, now) = opened();
        assert!(circuit.enter(now).is_none());
        assert!(circuit.enter(now + OPEN_FOR - Duration::from_nanos(1)).is_none());
        assert!(circuit.enter(now + OPEN_FOR).is_some());
    }

    #[test]
    fn one_probe_decides() {
        let (circuit, now) = opened();
        let later = now + OPEN_FOR;
        let probe = circuit.enter(later).unwrap();
        assert!(circuit.enter(later).is_none(), "only one");
        assert_eq!(probe.failed(later), None, "it was open before");
        assert!(circuit.enter(later + OPEN_FOR / 2).is_none());
        let probe = circuit.enter(later + OPEN_FOR).unwrap();
        assert_eq!(probe.answered(), Some(Change::Closed));
        assert!(!circuit.is_open());
        // From zero.
        assert_eq!(circuit.enter(later).unwrap().failed(later), None);
    }

    #[test]
    fn a_probe_that_is_given_up_makes_room_for_another() {
        let (circuit, now) = opened();
        let later = now + OPEN_FOR;
        drop(circuit.enter(later).unwrap());
        assert!(circuit.is_open());
        assert_eq!(circuit.enter(later).unwrap().answered(), Some(Change::Closed));
    }

    #[test]
    fn what_was_asked_before_it_opened_does_not_move_it() {
        let (circuit, now) = circuit();
        let early = [circuit.enter(now).unwrap(), circuit.enter(now).unwrap()];
        for _ in 0..3 {
            let _ = circuit.enter(now).unwrap().failed(now);
        }
        let [answered, failed] = early;
        assert_eq!((answered.answered(), failed.failed(now + OPEN_FOR)), (None, None));
        assert!(circuit.is_open());
        assert!(circuit.enter(now + OPEN_FOR).is_some(), "its time has not been put off");
    }
}
