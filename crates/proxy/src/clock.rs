//! The time of day, read once per beat.
//!
//! For what needs no better resolution than a second: the `Date` field and the time that policies see.

use std::{
    cell::Cell,
    time::{SystemTime, UNIX_EPOCH},
};

/// One worker's clock.
pub(crate) struct Clock {
    now_unix: Cell<u64>,
    date: Cell<[u8; 29]>,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let now = now_unix();
        Clock { now_unix: Cell::new(now), date: Cell::new(ringward_http::date::imf_fixdate(now)) }
    }

    /// Reads the system's clock.
    pub(crate) fn tick(&self) {
        let now = now_unix();
        if self.now_unix.replace(now) != now {
            self.date.set(ringward_http::date::imf_fixdate(now));
        }
    }

    /// Seconds since 1970, UTC.
    pub(crate) fn now_unix(&self) -> i64 {
        i64::try_from(self.now_unix.get()).unwrap_or(i64::MAX)
    }

    /// Now, as the `Date` field has it (RFC 9110 §5.6.7).
    pub(crate) fn date(&self) -> [u8; 29] {
        self.date.get()
    }
}

fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
