//! The encoders of a worker: how many there may be, and those that wait for the next response.

use std::cell::{Cell, RefCell};

use ringward_coding::{Algorithm, Encoder, memory_bytes_max};

/// One worker's.
#[derive(Default)]
pub(crate) struct Encoders {
    /// Bytes that all of them may take, the idle ones included.
    bytes: Cell<usize>,
    idle: RefCell<Vec<Encoder>>,
}

/// An encoder that is at work for a response; whoever drops it gives it back.
pub(crate) struct Held<'w> {
    encoder: Option<Encoder>,
    algorithm: Algorithm,
    encoders: &'w Encoders,
}

impl Encoders {
    /// One that is as new, if all of them together then take no more than `bytes_max`, or there is no other.
    pub(super) fn take(&self, algorithm: Algorithm, level: u8, bytes_max: usize) -> Option<Held<'_>> {
        let held = |encoder| Held { encoder: Some(encoder), algorithm, encoders: self };
        let mut idle = self.idle.borrow_mut();
        let same = |encoder: &Encoder| encoder.algorithm() == algorithm && encoder.level() == level;
        if let Some(position) = idle.iter().rposition(same) {
            return Some(held(idle.swap_remove(position)));
        }
        let needed = memory_bytes_max(algorithm);
        let fits = || self.bytes.get() == 0 || self.bytes.get() + needed <= bytes_max;
        while !fits() {
            self.forget(idle.pop()?.algorithm());
        }
        let encoder = Encoder::new(algorithm, level).ok()?;
        self.bytes.set(self.bytes.get() + needed);
        Some(held(encoder))
    }

    fn forget(&self, algorithm: Algorithm) {
        self.bytes.set(self.bytes.get() - memory_bytes_max(algorithm));
    }
}

impl Held<'_> {
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn encoder(&mut self) -> &mut Encoder {
        self.encoder.as_mut().expect("it is taken when this is dropped")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut idle = self.encoders.idle.borrow_mut();
        if idle.len() < IDLE_MAX
            && let Some(encoder) = self.encoder.take().and_then(Encoder::reset)
        {
            idle.push(encoder);
        } else {
            self.encoders.forget(self.algorithm);
        }
    }
}

/// How many idle ones are kept. What they save is the time to clear some hundred KiB, so a few suffice.
const IDLE_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_bounds_how_many_there_are() {
        let encoders = Encoders::default();
        let take = |algorithm| encoders.take(algorithm, 3, memory_bytes_max(Algorithm::Zstd) * 2);
        let (first, second) = (take(Algorithm::Zstd), take(Algorithm::Brotli));
        assert!(first.is_some() && second.is_some());
        assert!(take(Algorithm::Zstd).is_none() && take(Algorithm::Gzip).is_none());
        drop(second);
        assert_eq!(encoders.idle.borrow().len(), 0, "there is nothing to be saved");
        let third = take(Algorithm::Gzip);
        assert!(third.is_some());
        drop((first, third));
        assert_eq!(encoders.idle.borrow().len(), 2);
        // Idle ones go when there is need.
        let _third = (take(Algorithm::Brotli).unwrap(), take(Algorithm::Brotli).unwrap());
        assert_eq!(encoders.idle.borrow().len(), 0);
        drop(_third);
        assert_eq!(encoders.bytes.get(), 0);
    }

    #[test]
    fn there_is_always_one() {
        let encoders = Encoders::default();
        let first = encoders.take(Algorithm::Brotli, 3, 0);
        assert!(first.is_some() && encoders.take(Algorithm::Gzip, 3, 0).is_none());
    }

    #[test]
    fn an_idle_one_is_taken_for_its_level_alone() {
        let encoders = Encoders::default();
        let take = |level| encoders.take(Algorithm::Gzip, level, 1 << 30).unwrap();
        drop(take(3));
        let other = take(4);
        assert_eq!((encoders.idle.borrow().len(), other.encoder.as_ref().unwrap().level()), (1, 4));
        let same = take(3);
        assert_eq!((encoders.idle.borrow().len(), same.encoder.as_ref().unwrap().level()), (0, 3));
    }
}
