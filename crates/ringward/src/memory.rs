//! Watches how much memory the process takes, and tells the workers when it comes near `memory_max`.
//!
//! What is measured is what the kernel counts (resident memory), since that is what it kills for: whatever takes it, a leak included.

use std::sync::Arc;

use ringward_proxy::{Control, Pressure};
use ringward_telemetry::{ControlMetrics, resident_bytes};

/// Sees to it that there is some memory left.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    pressure: Pressure,
    metrics: Arc<ControlMetrics>,
}

impl MemoryWatch {
    /// Shows in `metrics` how short memory is.
    pub(crate) fn new(metrics: Arc<ControlMetrics>) -> Self {
        Self { pressure: Pressure::None, metrics }
    }

    /// Measures once. Without a `max` there is no pressure.
    pub(crate) fn sample(&mut self, max: Option<usize>, control: &Control) {
        let taken = max.and_then(|max| Some((resident_bytes()?, max as u64)));
        let pressure = match (taken, max) {
            (Some((resident, max)), _) => pressure(resident, max, self.pressure),
            (None, None) => Pressure::None,
            // What cannot be measured has not changed.
            (None, Some(_)) => self.pressure,
        };
        if pressure == self.pressure {
            return;
        }
        self.pressure = pressure;
        control.press(pressure);
        self.metrics.memory_pressure(pressure as u8);
        let (resident_bytes, memory_max) = taken.unwrap_or_default();
        match pressure {
            Pressure::None => tracing::info!(resident_bytes, memory_max, "there is enough memory again"),
            Pressure::Soft => tracing::warn!(
                resident_bytes,
                memory_max,
                "memory runs short: new connections are refused, others end after their request"
            ),
            Pressure::Hard => tracing::error!(
                resident_bytes,
                memory_max,
                "memory is about to run out: requests are answered with 503 (raise `memory_max`, or give less to do)"
            ),
        }
    }
}

/// The level for this much memory. One is left only when there is some room below it, so that it does not come and go.
fn pressure(resident: u64, max: u64, before: Pressure) -> Pressure {
    let above = |level: Pressure, percent: u64| {
        let percent = if before >= level { percent - PERCENT_BACK } else { percent };
        u128::from(resident) * 100 >= u128::from(max) * u128::from(percent)
    };
    if above(Pressure::Hard, HARD_PERCENT) {
        Pressure::Hard
    } else if above(Pressure::Soft, SOFT_PERCENT) {
        Pressure::Soft
    } else {
        Pressure::None
    }
}

/// Leaves some seconds of growth to those who are being served.
const SOFT_PERCENT: u64 = 85;
/// Leaves room for what is under way.
const HARD_PERCENT: u64 = 95;
const PERCENT_BACK: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_left_later_than_they_are_reached() {
        let mut now = Pressure::None;
        let mut level = |resident| {
            now = pressure(resident, 1000, now);
            now
        };
        assert_eq!(level(849), Pressure::None);
        assert_eq!(level(850), Pressure::Soft);
        assert_eq!(level(800), Pressure::Soft);
        assert_eq!(level(949), Pressure::Soft);
        assert_eq!(level(950), Pressure::Hard);
        assert_eq!(level(900), Pressure::Hard);
        assert_eq!(level(899), Pressure::Soft);
        assert_eq!(level(799), Pressure::None);
        assert_eq!(level(5000), Pressure::Hard, "at once, if need be");
        assert_eq!(level(0), Pressure::None);
    }
}
