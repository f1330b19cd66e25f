//! Which reload runs, which is to run next, and who waits for the outcome.
//!
//! One runs at a time. Whoever asks while one runs is answered by the next, since this one may have read a file before it was
//! written. It knows nothing of what a reload does.

use std::future::pending;
use std::mem;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Attempt, ReloadReport};

/// The reloads of a process.
pub(crate) struct Reloads {
    asking: mpsc::Sender<Answer>,
    asked: mpsc::Receiver<Answer>,
    under_way: Option<JoinHandle<Attempt>>,
    /// Whom the one under way, or its next try, is for.
    current: Callers,
    /// Whom the one after it is for, if there is to be one.
    next: Option<Callers>,
    /// When to look again at files that were in the middle of a change.
    retry: Option<Instant>,
}

/// Where the outcome of a reload goes.
pub(crate) type Answer = oneshot::Sender<ReloadReport>;

/// Who wants a reload.
#[derive(Debug, Default)]
struct Callers {
    /// Somebody did ask, and it was not just a file that changed.
    insist: bool,
    answers: Vec<Answer>,
}

/// What [`Reloads::event`] waits for.
pub(crate) enum Event {
    /// Somebody wants a reload, and to be told what came of it.
    Asked(Answer),
    /// The attempt under way has ended.
    Finished {
        /// What it came to; `None` if it panicked.
        attempt: Option<Attempt>,
        /// Somebody asked for it.
        insist: bool,
    },
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing, a reload is under way.
    Later,
    /// An attempt is to be started ([`Reloads::started`]).
    Now,
}

impl Reloads {
    /// Of a process that has just started.
    pub(crate) fn new() -> Reloads {
        let (asking, asked) = mpsc::channel(ASKED_MAX);
        let (current, next) = (Callers::default(), None);
        Reloads { asking, asked, under_way: None, current, next, retry: None }
    }

    /// For whoever asks for reloads.
    pub(crate) fn asking(&self) -> mpsc::Sender<Answer> {
        self.asking.clone()
    }

    /// Whether none is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Somebody wants one, and perhaps to be told what came of it.
    pub(crate) fn insist(&mut self, answer: Option<Answer>) -> Due {
        let callers = if self.is_idle() { &mut self.current } else { self.next.get_or_insert_default() };
        callers.insist = true;
        // Those who have lost patience may have come back and asked again.
        callers.answers.retain(|answer| !answer.is_closed());
        callers.answers.extend(answer);
        if self.is_idle() { Due::Now } else { Due::Later }
    }

    /// An attempt is under way.
    pub(crate) fn started(&mut self, attempt: JoinHandle<Attempt>) {
        self.retry = None;
        self.under_way = Some(attempt);
    }

    /// Waits until somebody asks, or the attempt under way has ended.
    pub(crate) async fn event(&mut self) -> Event {
        tokio::select! {
            answer = self.asked.recv() => Event::Asked(answer.expect("`asking` is a sender")),
            attempt = finished(&mut self.under_way) => {
                self.under_way = None;
                Event::Finished { attempt, insist: self.current.insist }
            }
        }
    }

    /// When the attempt that has just ended is to be made again, if it is.
    pub(crate) fn retry(&self) -> Option<Instant> {
        self.retry
    }

    /// The attempt that has just ended came too early, and its callers wait for the next.
    pub(crate) fn try_again(&mut self, at: Instant) {
        self.retry = Some(at);
    }

    /// Tells the callers of the attempt that has just ended what came of it. Whether another one is to be started for those that
    /// have asked meanwhile.
    pub(crate) fn conclude(&mut self, report: &ReloadReport) -> Due {
        let next = self.next.take();
        let due = if next.is_some() { Due::Now } else { Due::Later };
        let Callers { answers, .. } = mem::replace(&mut self.current, next.unwrap_or_default());
        for answer in answers {
            // Whoever asked may have lost patience.
            let _ = answer.send(report.clone());
        }
        due
    }

    /// Tells everybody that there will be none, since the process ends.
    pub(crate) fn give_up(&mut self) {
        self.retry = None;
        while self.conclude(&ReloadReport::TooLate) == Due::Now {}
    }
}

/// Waits for the attempt under way; for ever if there is none.
async fn finished(under_way: &mut Option<JoinHandle<Attempt>>) -> Option<Attempt> {
    let Some(attempt) = under_way else { return pending().await };
    attempt.await.inspect_err(|error| tracing::error!(%error, "reload failed by a panic")).ok()
}

/// As many as the admin socket has clients; further ones wait.
const ASKED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> (Option<Answer>, oneshot::Receiver<ReloadReport>) {
        let (answer, told) = oneshot::channel();
        (Some(answer), told)
    }

    #[tokio::test]
    async fn who_asks_during_a_reload_is_answered_by_the_next() {
        let mut reloads = Reloads::new();
        let ((first, mut told_first), (second, mut told_second)) = (caller(), caller());
        assert_eq!(reloads.insist(first), Due::Now);
        reloads.started(tokio::spawn(pending()));
        assert!(!reloads.is_idle());
        assert_eq!(reloads.insist(second), Due::Later);

        reloads.under_way = None;
        let report = ReloadReport::Unchanged { generation: 1 };
        assert_eq!(reloads.conclude(&report), Due::Now);
        assert_eq!(told_first.try_recv().unwrap(), report);
        assert!(told_second.try_recv().is_err(), "not yet");
        assert!(reloads.current.insist, "the next is for somebody");
        let report = ReloadReport::Unchanged { generation: 2 };
        assert_eq!(reloads.conclude(&report), Due::Later);
        assert_eq!(told_second.try_recv().unwrap(), report);
    }

    #[tokio::test]
    async fn who_asks_again_and_again_takes_one_place() {
        let mut reloads = Reloads::new();
        for _ in 0..100 {
            // Whoever waits for it is gone at once.
            reloads.insist(caller().0);
        }
        assert_eq!(reloads.current.answers.len(), 1);
    }

    #[tokio::test]
    async fn callers_wait_through_tries_and_are_let_go_at_the_end() {
        let mut reloads = Reloads::new();
        let ((first, mut told_first), (second, mut told_second)) = (caller(), caller());
        reloads.insist(first);
        reloads.try_again(Instant::now());
        assert!(reloads.retry().is_some() && told_first.try_recv().is_err());
        reloads.started(tokio::spawn(pending()));
        assert!(reloads.retry().is_none());
        reloads.insist(second);
        reloads.give_up();
        assert_eq!(told_first.try_recv().unwrap(), ReloadReport::TooLate);
        assert_eq!(told_second.try_recv().unwrap(), ReloadReport::TooLate);
    }
}
