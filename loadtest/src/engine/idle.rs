//! Connections that wait, as those of devices do that rarely have something to say. One request each before and after.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::engine::place::Place;
use crate::engine::{BUFFER_BYTES, Run, finish, turn};
use crate::report::IdleReport;

/// Lets them wait for `hold`.
pub(super) async fn idle(run: &Rc<Run>, hold: Duration) -> (Duration, IdleReport) {
    let started = Instant::now();
    let places = (0..run.plan.connections).map(|_| Place::new(run.plan.clients.for_place())).collect();
    let waiting = on_each(run, places).await;
    let opened_in = started.elapsed();
    let held = waiting.len();
    sleep(hold).await;
    let waiting = on_each(run, waiting).await;
    let report = IdleReport { opened_seconds: opened_in.as_secs_f64(), held, answered_again: waiting.len() };
    (started.elapsed(), report)
}

/// Makes one request in each of these places, a few at a time. Returns those where the answer was right.
async fn on_each(run: &Rc<Run>, places: Vec<Place>) -> Vec<Place> {
    let todo = Rc::new(RefCell::new(places));
    let done = Rc::new(RefCell::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..run.plan.handshakes_max {
        let (run, todo, done) = (run.clone(), todo.clone(), done.clone());
        tasks.spawn_local(async move {
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                let Some(place) = todo.borrow_mut().pop() else { return };
                if turn(&run, &place, Instant::now(), &mut buffer).await {
                    done.borrow_mut().push(place);
                }
            }
        });
    }
    finish(tasks).await;
    done.take()
}
