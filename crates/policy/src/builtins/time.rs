//! Times and dates as Go has them.

use regorus::Value;

use crate::builtins::original::{self, Check, Original};
use crate::builtins::{CallError, Function, integer, text};

const CHECKS: &[(&str, Check)] = &[
    ("time.add_date", add_date),
    ("time.clock", zones),
    ("time.date", zones),
    ("time.diff", zones),
    ("time.format", zones),
    ("time.parse_duration_ns", duration),
    ("time.parse_rfc3339_ns", rfc3339),
    ("time.weekday", zones),
];

/// End of 2037 in nanoseconds: so far go regorus' tables of time zones.
const ZONES_END_NS: i64 = 2_145_916_800_000_000_000;

pub(crate) fn functions() -> Vec<Function> {
    original::checked(CHECKS)
}

/// Refuses the zone of the machine, which is none of a policy's business, and times that the tables do not reach.
fn zones(args: &[Value]) -> Result<Option<Value>, CallError> {
    for time in args {
        let Value::Array(parts) = time else { continue };
        let (Some(ns), Some(Value::String(zone))) = (parts.first(), parts.get(1)) else { continue };
        match zone.as_ref() {
            "" | "UTC" => {}
            "Local" => return Err(CallError::new("time zone `Local` is that of the machine: name one")),
            zone if ns.as_i64().is_ok_and(|ns| ns >= ZONES_END_NS) => {
                return Err(CallError(format!("time zone `{zone}` is not known beyond 2037")));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// A month that is too short is counted on into the next: a month after 31 January is 3 March. regorus stops at its end.
fn add_date(args: &[Value]) -> Result<Option<Value>, CallError> {
    let name = "time.add_date";
    zones(&args[..1])?;
    let (years, months, days) = (integer(name, args, 1)?, integer(name, args, 2)?, integer(name, args, 3)?);
    let date = Original::of("time.date").call(&args[..1])?;
    let part = |index: usize| date[index].as_i64().map_err(|_| CallError::new("time has no date"));
    let (year, month, day) = (part(0)?, part(1)?, part(2)?);
    let month =
        (year.saturating_add(years)).saturating_mul(12).saturating_add(month - 1).saturating_add(months);
    let missing = (day - month_length(month.div_euclid(12), month.rem_euclid(12))).max(0);
    // All in months, since a year on from 29 February regorus finds nothing.
    let months = years.saturating_mul(12).saturating_add(months);
    let args =
        [args[0].clone(), Value::from(0), Value::from(months), Value::from(days.saturating_add(missing))];
    Original::of(name).call(&args).map(Some)
}

/// Days of a month that is counted from 0.
fn month_length(year: i64, month: i64) -> i64 {
    let leaps = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 => 28 + i64::from(leaps),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// regorus takes `t`, `z`, a space in place of `T`, and the 60th second.
fn rfc3339(args: &[Value]) -> Result<Option<Value>, CallError> {
    let time = text("time.parse_rfc3339_ns", args, 0)?.as_bytes();
    let is_strict = time.get(10) == Some(&b'T')
        && time.get(17..19).is_some_and(|second| second < b"60".as_slice())
        && !time.contains(&b'z');
    if is_strict { Ok(None) } else { Err(CallError::new("time is not as in `2006-01-02T15:04:05Z`")) }
}

/// regorus panics for a point without a digit behind it.
fn duration(args: &[Value]) -> Result<Option<Value>, CallError> {
    let duration = text("time.parse_duration_ns", args, 0)?;
    let has_digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    if duration.split('.').skip(1).all(has_digit) {
        Ok(None)
    } else {
        Err(CallError::new("duration is not as in `1.5h`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, args: &str) -> Result<String, String> {
        let args = Value::from_json_str(args).unwrap().as_array().unwrap().to_vec();
        let (name, check) = CHECKS.iter().find(|(checked, _)| *checked == name).unwrap();
        let result = match check(&args) {
            Ok(None) => Original::of(name).call(&args),
            Ok(Some(result)) => Ok(result),
            Err(error) => Err(error),
        };
        result.map(|result| result.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_go_refuses_or_we_cannot_know_is_an_error() {
        for (name, args) in [
            ("time.parse_rfc3339_ns", r#"["2026-01-02t03:04:05Z"]"#),
            ("time.parse_rfc3339_ns", r#"["2026-01-02T03:04:05z"]"#),
            ("time.parse_rfc3339_ns", r#"["2026-01-02 03:04:05Z"]"#),
            ("time.parse_rfc3339_ns", r#"["2026-12-31T23:59:60Z"]"#),
            ("time.add_date", "[0, 100000, 0, 0]"),
            ("time.add_date", r#"[[0, "Local"], 0, 0, 0]"#),
            ("time.clock", r#"[[0, "Local"]]"#),
            ("time.clock", r#"[[4331387042147089243, "Europe/Berlin"]]"#),
            ("time.diff", r#"[0, [4331387042147089243, "Europe/Berlin"]]"#),
            ("time.parse_duration_ns", r#"["1."]"#),
            ("time.parse_duration_ns", r#"["1.h"]"#),
        ] {
            assert!(call(name, args).is_err(), "{name} {args}");
        }
        assert_eq!(call("time.clock", r#"[[4331387042147089243, "UTC"]]"#), Ok("[19,4,2]".to_owned()));
        assert_eq!(call("time.parse_duration_ns", r#"["1.5s"]"#), Ok("1500000000".to_owned()));
    }

    #[test]
    fn dates_are_counted_on() {
        let date = |year: &str| call("time.parse_rfc3339_ns", &format!("[\"{year}T00:00:00Z\"]")).unwrap();
        for (from, add, to) in [
            ("2026-01-31", "0, 1, 0", "2026-03-03"),
            ("2024-02-29", "1, 0, 0", "2025-03-01"),
            ("2024-02-29", "4, 0, 0", "2028-02-29"),
            ("2024-03-31", "0, -1, 0", "2024-03-02"),
            ("2026-01-15", "0, 12, -1", "2027-01-14"),
        ] {
            assert_eq!(
                call("time.add_date", &format!("[{}, {add}]", date(from))),
                Ok(date(to)),
                "{from} {add}"
            );
        }
    }
}
