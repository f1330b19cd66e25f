//! The body of a request on its way to a copy of it: written where the request's own body leaves, read by the copy's task.
//!
//! Writing never waits. What the reader has not taken yet is bounded: above it the copy is cut off, and what was held is dropped.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use crate::io::SMALL;

/// Both ends of the way for a body of which `held_max` bytes are held at most.
pub(super) fn tap(held_max: usize) -> (Tap, Tapped) {
    let state = Rc::new(RefCell::new(State { held_max, ..State::default() }));
    (Tap(state.clone()), Tapped(state))
}

/// Where a body is copied from. Dropped before [`Tap::end`], the copy has no end, and is given up.
#[derive(Debug)]
pub(crate) struct Tap(Rc<RefCell<State>>);

/// Where a copy gets it.
#[derive(Debug)]
pub(super) struct Tapped(Rc<RefCell<State>>);

/// Names and values.
pub(super) type Trailers = Vec<(String, Vec<u8>)>;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Piece(Vec<u8>),
    /// That was all of it.
    End(Trailers),
    /// More was held than may be.
    Cut,
    /// The request ended before its body did.
    Abandoned,
}

#[derive(Debug, Default)]
struct State {
    held_max: usize,
    /// Of the pieces, and of the one that was given out last.
    held: usize,
    given_out: usize,
    pieces: VecDeque<Vec<u8>>,
    /// What comes after the pieces.
    after: Option<Next>,
    /// Nobody reads any more.
    closed: bool,
    waker: Option<Waker>,
}

impl Tap {
    /// Copies a part of the body.
    pub(crate) fn piece(&self, data: &[u8]) {
        let mut state = self.0.borrow_mut();
        if state.closed || state.after.is_some() || data.is_empty() {
            return;
        }
        if state.held + data.len() > state.held_max {
            state.pieces = VecDeque::new();
            state.finish(Next::Cut);
            return;
        }
        state.held += data.len();
        match state.pieces.back_mut() {
            // So that pieces of a byte take no more room than they have bytes.
            Some(last) if last.len() + data.len() <= SMALL => last.extend_from_slice(data),
            _ => state.pieces.push_back(data.to_vec()),
        }
        state.wake();
    }

    /// That was all of it.
    pub(crate) fn end(&self) {
        self.end_with(Vec::new());
    }

    /// That was all of it, and these are its trailers.
    pub(crate) fn end_with(&self, trailers: Trailers) {
        self.0.borrow_mut().finish(Next::End(trailers));
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        if state.after.is_none() {
            state.pieces = VecDeque::new();
        }
        state.finish(Next::Abandoned);
    }
}

impl State {
    /// The first end counts.
    fn finish(&mut self, end: Next) {
        self.after.get_or_insert(end);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn next(&mut self) -> Option<Next> {
        self.held -= std::mem::take(&mut self.given_out);
        if let Some(piece) = self.pieces.pop_front() {
            self.given_out = piece.len();
            return Some(Next::Piece(piece));
        }
        match self.after.as_mut()? {
            Next::End(trailers) => Some(Next::End(std::mem::take(trailers))),
            Next::Cut => Some(Next::Cut),
            Next::Piece(_) | Next::Abandoned => Some(Next::Abandoned),
        }
    }
}

impl Tapped {
    /// Waits for the next part. The last one was used up.
    pub(super) async fn next(&mut self) -> Next {
        poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            match state.next() {
                Some(next) => Poll::Ready(next),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// More was held than may be.
    pub(super) fn is_cut(&self) -> bool {
        self.0.borrow().after == Some(Next::Cut)
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.closed = true;
        state.pieces = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Context};

    use super::*;

    /// What there is without waiting.
    fn next(tapped: &mut Tapped) -> Option<Next> {
        let mut next = pin!(tapped.next());
        match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => Some(next),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_is_written_is_read_in_order_with_its_end() {
        let (tap, mut tapped) = tap(100_000);
        assert_eq!(next(&mut tapped), None);
        tap.piece(b"one");
        tap.piece(b" two");
        assert_eq!(next(&mut tapped), Some(Next::Piece(b"one two".to_vec())), "small ones are put together");
        tap.piece(&[7; SMALL]);
        tap.piece(&[8; SMALL]);
        let trailers = vec![("x-sum".to_owned(), b"1".to_vec())];
        tap.end_with(trailers.clone());
        drop(tap);
        assert_eq!(next(&mut tapped), Some(Next::Piece(vec![7; SMALL])));
        assert_eq!(next(&mut tapped), Some(Next::Piece(vec![8; SMALL])));
        assert_eq!(next(&mut tapped), Some(Next::End(trailers)));
    }

    #[test]
    fn no_more_is_held_than_may_be_and_what_is_above_cuts_the_copy() {
        let (tap, mut tapped) = tap(3 * SMALL);
        for _ in 0..10 {
            tap.piece(&[1; SMALL]);
            tap.piece(&[2; SMALL]);
            assert!(matches!(next(&mut tapped), Some(Next::Piece(_))));
            assert!(matches!(next(&mut tapped), Some(Next::Piece(_))), "the first one is used up");
        }
        // The one that was given out counts until the next is asked for.
        tap.piece(&[3; SMALL]);
        tap.piece(&[4; SMALL]);
        tap.piece(&[5]);
        assert_eq!(next(&mut tapped), Some(Next::Cut));
        assert_eq!(tap.0.borrow().pieces.capacity(), 0);
        tap.piece(&[6]);
        tap.end();
        assert_eq!(next(&mut tapped), Some(Next::Cut), "there is no going on");
    }

    #[test]
    fn a_body_without_an_end_is_abandoned_and_a_copy_that_nobody_reads_holds_nothing() {
        let (one, mut tapped) = tap(1000);
        one.piece(b"one");
        drop(one);
        assert_eq!(next(&mut tapped), Some(Next::Abandoned));
        let (tap, tapped) = tap(1000);
        drop(tapped);
        tap.piece(b"one");
        assert_eq!(tap.0.borrow().held, 0);
    }
}
