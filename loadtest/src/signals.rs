//! The signals that end a program before it is ready.

use std::io;

use tokio::select;
use tokio::signal::unix::{SignalKind, signal};

/// Does the work, unless one of them comes: then it is dropped, with all that it has started and made.
///
/// # Errors
/// If signals cannot be caught.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> io::Result<Option<T>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(select! {
        outcome = work => Some(outcome),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        _ = hang_up.recv() => None,
    })
}
