//! What time it is, for those who keep schedules; tests set it.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A clock. Clones share it.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// The clock of the system.
    pub(crate) fn system() -> Clock {
        Clock(Arc::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        }))
    }

    /// Seconds since 1970.
    pub(crate) fn now_unix(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now_unix())
    }
}

#[cfg(test)]
impl Clock {
    /// One that is ahead of the system's by what `ahead` says, in seconds.
    pub(crate) fn ahead(ahead: Arc<std::sync::atomic::AtomicI64>) -> Clock {
        let system = Clock::system();
        Clock(Arc::new(move || system.now_unix() + ahead.load(std::sync::atomic::Ordering::Relaxed)))
    }
}
