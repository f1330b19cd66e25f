//! Durations and sizes with their units, as scenarios write them.

use std::time::Duration;

/// Reads a duration such as `250ms`, `1.5s`, `2m` or `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1e-3), ("us", 1e-6), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let wrong = || {
        format!("`{text}` is no duration: write a number with `us`, `ms`, `s`, `m` or `h`, such as `250ms`")
    };
    let seconds = with_unit(text, &units).ok_or_else(wrong)?;
    if seconds > HOUR {
        return Err(format!("`{text}` is too long: an hour at the most"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Reads a size such as `128B`, `64KiB`, `10MiB` or `1GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0), ("B", 1.0)];
    let size = with_unit(text, &units).ok_or_else(|| {
        format!("`{text}` is no size: write a number with `B`, `KiB`, `MiB` or `GiB`, such as `64KiB`")
    })?;
    if size > BYTES_MAX {
        return Err(format!("`{text}` is too large: 16 GiB at the most"));
    }
    Ok(size as u64)
}

fn with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let digits = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    number.parse::<f64>().ok().filter(|_| digits).map(|number| number * factor)
}

const HOUR: f64 = 3600.0;
const BYTES_MAX: f64 = (16u64 << 30) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_their_units() {
        for (text, wanted) in
            [("250ms", 0.25), ("1.5s", 1.5), ("2m", 120.0), ("1h", 3600.0), ("0s", 0.0), ("50us", 5e-5)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(wanted)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1e3s", "1 s", "2h", "inf", "1.2.3s", "5d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for (text, wanted) in [("128B", 128), ("64KiB", 65_536), ("1.5MiB", 1_572_864), ("16GiB", 16 << 30)] {
            assert_eq!(bytes(text), Ok(wanted), "{text}");
        }
        for text in ["", "5", "B", "5KB", "-1B", "17GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
