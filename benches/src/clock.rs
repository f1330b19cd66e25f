//! CPU time in place of wall-clock time, so that what others do on the machine is not measured.

use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Criterion's measurement of the CPU time of the calling thread. The benches here wait for nothing, so that on an idle
/// machine it equals wall-clock time.
pub struct CpuTime;

/// A bench configuration that measures [`CpuTime`].
pub fn criterion() -> Criterion<CpuTime> {
    Criterion::default().with_measurement(CpuTime)
}

/// CPU time that this thread has used so far. Reading it takes a system call, some 200 ns.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("time used is not negative");
    let nanoseconds = u32::try_from(time.tv_nsec).expect("below a second");
    Duration::new(seconds, nanoseconds)
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        thread_time()
    }

    fn end(&self, started: Duration) -> Duration {
        thread_time() - started
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
