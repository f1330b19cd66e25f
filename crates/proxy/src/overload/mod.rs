//! What is refused before there is too much of it.
//!
//! Everything here belongs to one worker and takes no lock. A limit that is per node each worker holds to by its share: rates are
//! divided exactly, numbers are rounded up, so that a node of *n* workers lets less than *n* more in than the limit says. The kernel
//! deals connections out by address and port, evenly only if there are many.

mod connections;
mod handshakes;
mod places;
mod rate;
mod requests;
mod sources;

pub(crate) use connections::{SourcePlace, TooMany};
pub(crate) use handshakes::Gate;
pub(crate) use requests::{Requests, counts};
