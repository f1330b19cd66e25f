//! Places for connections: one connection is in each at a time, used by one task, or by several over HTTP/2.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Mutex;

use crate::client::Connection;
use crate::clients::Client;
use crate::engine::Run;
use crate::failure::Failure;

/// A place.
pub(super) struct Place {
    /// Who connects here, if that is the same client each time.
    client: Option<Rc<Client>>,
    there: Mutex<Option<Line>>,
}

/// A connection in use.
pub(super) struct Line {
    pub(super) connection: Connection,
    pub(super) client: Rc<Client>,
    /// Whether there was a request on it before.
    pub(super) reused: bool,
    /// Whether the request that is made on it now is its last.
    pub(super) is_last: bool,
    /// Requests that it may still be used for, if they are counted.
    left: Option<Rc<Cell<u64>>>,
    /// How many storms there were before it was opened.
    storms: u64,
}

/// Who could not connect, and why.
pub(super) type Unopened = (Rc<Client>, Failure);

impl Place {
    pub(super) fn new(client: Option<Rc<Client>>) -> Place {
        Place { client, there: Mutex::new(None) }
    }

    /// Opens a connection before there is a request for it, or counts why not.
    pub(super) async fn fill(&self, run: &Run) {
        let mut there = self.there.lock().await;
        // Somebody who could not wait may have opened one.
        if there.is_some() {
            return;
        }
        match self.open(run, self.next_client(run)).await {
            // That it is new is of no interest: until its first request comes it may be idle for long.
            Ok(line) => *there = Some(Line { reused: true, ..line }),
            Err((client, failure)) => {
                run.note_unopened(&client, failure);
            }
        }
    }

    /// Takes the connection for one request; opens one if there is none. One that can be shared stays here for others too.
    pub(super) async fn take(&self, run: &Run) -> Result<Line, Unopened> {
        let mut there = self.there.lock().await;
        let line = match there.take() {
            Some(line) => line,
            None => self.open(run, self.next_client(run)).await?,
        };
        Ok(line.used_once(&mut there))
    }

    /// The same for a request that the old connection has failed: on a new one of the same client, or on one that somebody else has
    /// opened meanwhile.
    pub(super) async fn replace(&self, run: &Run, old: Line) -> Result<Line, Unopened> {
        let mut there = self.there.lock().await;
        let line = match there.take() {
            Some(line) => line,
            None => self.open(run, old.client).await?,
        };
        Ok(line.used_once(&mut there))
    }

    /// Lets others use a connection after a request, unless it is here anyway.
    pub(super) async fn put_back(&self, line: Line) {
        let mut there = self.there.lock().await;
        if there.is_none() && line.share().is_none() {
            *there = Some(Line { reused: true, ..line });
        }
    }

    /// Lets go of a connection of which something went wrong, unless there is another one by now.
    pub(super) async fn forget(&self, failed: &Line) {
        let mut there = self.there.lock().await;
        if there.as_ref().is_some_and(|line| line.connection.is(&failed.connection)) {
            *there = None;
        }
    }

    /// Opens another connection in place of one from before the last storm.
    pub(super) async fn renew(&self, run: &Run) {
        let storms = *run.storms.borrow();
        let is_old = |line: &Line| line.storms < storms;
        if self.there.lock().await.take_if(|line| is_old(line)).is_some() {
            self.fill(run).await;
        }
    }

    pub(super) async fn is_empty(&self) -> bool {
        self.there.lock().await.is_none()
    }

    fn next_client(&self, run: &Run) -> Rc<Client> {
        self.client.clone().unwrap_or_else(|| run.plan.clients.next())
    }

    async fn open(&self, run: &Run, client: Rc<Client>) -> Result<Line, Unopened> {
        let storms = *run.storms.borrow();
        match run.open(&client).await {
            Ok(connection) => {
                let random = &mut run.random.borrow_mut();
                let left =
                    run.plan.per_connection.map(|count| Rc::new(Cell::new(count.draw_count(random, 1))));
                Ok(Line { connection, client, reused: false, is_last: false, left, storms })
            }
            Err(failure) => Err((client, failure)),
        }
    }
}

impl Line {
    /// For a request that is made on it. Unless that is its last, one that can be shared stays where others find it.
    fn used_once(mut self, there: &mut Option<Line>) -> Line {
        if let Some(left) = &self.left {
            left.set(left.get().saturating_sub(1));
            self.is_last = left.get() == 0;
        }
        let shared = if self.is_last { None } else { self.share() };
        let Some(shared) = shared else { return self };
        *there = Some(Line { reused: true, ..self });
        shared
    }

    /// The same connection for another request at the same time, if that can be.
    fn share(&self) -> Option<Line> {
        Some(Line {
            connection: self.connection.share()?,
            client: self.client.clone(),
            left: self.left.clone(),
            ..*self
        })
    }
}
