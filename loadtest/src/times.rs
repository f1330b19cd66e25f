//! Histograms of times, and the form in which reports hold them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer as From, Serialize, Serializer as Into};

/// A histogram of times in nanoseconds. As text it is in HdrHistogram's form V2, compressed, in base64, which other programs read too.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    /// To three digits, from a nanosecond on.
    pub(crate) fn new() -> Times {
        Times(Histogram::new_with_bounds(1, TIME_MAX_NS, 3).expect("bounds and digits are valid"))
    }

    /// To two digits, from a microsecond on: small enough to be emptied each second.
    pub(crate) fn small() -> Times {
        Times(Histogram::new_with_bounds(1000, TIME_MAX_NS, 2).expect("bounds and digits are valid"))
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(TIME_MAX_NS));
    }

    /// Adds all that are in the other one.
    pub(crate) fn add_all(&mut self, other: &Times) {
        self.0.add(&other.0).expect("no histogram holds times that another one cannot");
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time below which this share of all lies, in microseconds.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The time of this rank, of which 1 is that of the shortest, in microseconds.
    pub(crate) fn ranked_us(&self, rank: u64) -> f64 {
        // In the middle between two ranks, so that rounding leads to neither of its neighbours.
        self.quantile_us((rank as f64 - 0.5) / self.count().max(1) as f64)
    }

    /// The mean in microseconds.
    pub(crate) fn mean_us(&self) -> f64 {
        self.0.mean() / 1e3
    }

    fn encode(&self) -> Result<String, String> {
        let mut bytes = Vec::new();
        let encoded = V2DeflateSerializer::new().serialize(&self.0, &mut bytes);
        encoded.map_err(|error| format!("a histogram cannot be written: {error}"))?;
        Ok(STANDARD.encode(bytes))
    }

    fn decode(text: &str) -> Result<Times, String> {
        let bytes = STANDARD.decode(text).map_err(|error| format!("a histogram is no base64: {error}"))?;
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut &bytes[..])
            .map_err(|error| format!("a histogram is not in HdrHistogram's form V2: {error}"))?;
        // Into one of ours, so that all can be added to each other.
        let mut times = Times::new();
        times.0.add(&read).map_err(|_| "a histogram holds times of more than an hour".to_owned())?;
        Ok(times)
    }
}

impl Serialize for Times {
    fn serialize<S: Into>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode().map_err(serde::ser::Error::custom)?)
    }
}

impl<'a> Deserialize<'a> for Times {
    fn deserialize<D: From<'a>>(deserializer: D) -> Result<Times, D::Error> {
        Times::decode(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The longest that an exchange may take (`--timeout`).
const TIME_MAX_NS: u64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn some(count: u64) -> Times {
        let mut times = Times::new();
        (1..=count).for_each(|index| times.add(Duration::from_micros(index * index)));
        times
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for times in [Times::new(), some(1), some(1000), some(20_000)] {
            assert_eq!(Times::decode(&times.encode().unwrap()).unwrap(), times);
        }
        let mut longest = Times::new();
        longest.add(Duration::from_secs(10_000));
        assert_eq!(Times::decode(&longest.encode().unwrap()).unwrap(), longest);
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for (text, wanted) in [
            ("*", "no base64"),
            ("", "form V2"),
            ("aGVsbG8gd29ybGQ=", "form V2"),
            // A header without what it speaks of.
            ("HISTFAAAAEV42pNpmSzMwMDAxAABMJ", "no base64"),
        ] {
            let error = Times::decode(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let mut hours = Histogram::<u64>::new_with_bounds(1, u64::MAX / 2, 3).unwrap();
        hours.record(TIME_MAX_NS * 4).unwrap();
        let error = Times::decode(&Times(hours).encode().unwrap()).unwrap_err();
        assert!(error.contains("more than an hour"), "{error}");
    }

    /// Wherever it is damaged: an error or another histogram, and never a panic.
    #[test]
    fn damage_is_noticed() {
        let text = some(300).encode().unwrap();
        for index in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[index] = if damaged[index] == b'A' { b'B' } else { b'A' };
            let _ = Times::decode(std::str::from_utf8(&damaged).unwrap());
            let _ = Times::decode(&text[..index]);
        }
    }

    #[test]
    fn ranks_are_counted_from_1() {
        let times = some(100);
        for rank in [1, 2, 50, 99, 100] {
            let (seen, wanted) = (times.ranked_us(rank), (rank * rank) as f64);
            assert!((seen / wanted - 1.0).abs() < 0.002, "{rank}: {seen}");
        }
    }

    #[test]
    fn two_are_added_as_if_they_were_one() {
        let (mut sum, mut all) = (some(10), some(10));
        sum.add_all(&some(500));
        (1..=500u64).for_each(|index| all.add(Duration::from_micros(index * index)));
        assert_eq!(sum, all);
    }
}
