//! The tasks that serve streams, each one stream after the other.
//!
//! What a stream's exchange needs is a few kilobytes. Allocated for each request, they would be cold memory every time; a task
//! that has served a stream waits for the next one instead, of whichever connection. The one that has waited the shortest is
//! taken first.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
};

use h2::{RecvStream, server::SendResponse};
use http::Request;

use super::{
    course::Running,
    piece::Piece,
    stream::{self, Tunnel},
};
use crate::{io, worker::Contained};

/// One worker's tasks that wait for a stream.
#[derive(Default)]
pub(crate) struct Seats(RefCell<Vec<Rc<Seat>>>);

/// A stream that is to be served.
pub(super) struct Job {
    pub(super) running: Running,
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Piece>,
}

/// How a task is given its next stream.
#[derive(Default)]
struct Seat {
    job: Cell<Option<Job>>,
    waker: Cell<Option<Waker>>,
}

/// Has a stream served.
pub(super) fn serve(job: Job) {
    let waiting = job.running.shared().connection.worker.seats.0.borrow_mut().pop();
    match waiting {
        Some(seat) => seat.offer(job),
        None => {
            let seat = Rc::new(Seat::default());
            seat.offer(job);
            io::spawn(attend(seat));
        }
    }
}

/// Serves what is offered, until a panic or until enough others wait.
async fn attend(seat: Rc<Seat>) {
    loop {
        let Job { running, request, respond } = seat.next().await;
        let shared = running.shared().clone();
        let worker = &shared.connection.worker;
        // Pinned in place, as it takes most of the room.
        let serving = pin!(stream::serve(shared.clone(), request, respond));
        match Contained::pinned(serving).await {
            Ok(None) => drop(running),
            // It may last, and needs less room than a request.
            Ok(Some(tunnel)) => io::spawn(carry(tunnel, running)),
            Err(_) => {
                worker.shard.panic_caught();
                return;
            }
        }
        let mut waiting = worker.seats.0.borrow_mut();
        if waiting.len() == SEATS_KEPT {
            return;
        }
        waiting.push(seat.clone());
    }
}

/// Carries a tunnel that a stream has become.
async fn carry(tunnel: Tunnel, running: Running) {
    let worker = running.shared().connection.worker.clone();
    if Contained::new(tunnel.carry()).await.is_err() {
        worker.shard.panic_caught();
    }
    drop(running);
}

impl Seat {
    fn offer(&self, job: Job) {
        self.job.set(Some(job));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn next(&self) -> Job {
        poll_fn(|cx| match self.job.take() {
            Some(job) => Poll::Ready(job),
            None => {
                self.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

/// So many tasks wait at most, in about 3 KiB each.
const SEATS_KEPT: usize = 512;
