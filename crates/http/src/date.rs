//! The `Date` format of HTTP (RFC 9110 §5.6.7). The caller brings the clock, and caches the text for a second.

/// `unix_seconds` as an IMF-fixdate, such as `Sun, 06 Nov 1994 08:49:37 GMT`. Times beyond the year 9999 are given as
/// its last second, because the format has four digits.
pub fn imf_fixdate(unix_seconds: u64) -> [u8; 29] {
    let seconds = unix_seconds.min(LAST_SECOND);
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    // 1970-01-01 was a Thursday.
    let weekday = WEEKDAYS[index((days + 4) % 7)];
    let mut text = *b"Www, DD Mmm YYYY HH:MM:SS GMT";
    text[..3].copy_from_slice(weekday);
    two_digits(&mut text[5..7], day);
    text[8..11].copy_from_slice(MONTHS[index(month - 1)]);
    two_digits(&mut text[12..14], year / 100);
    two_digits(&mut text[14..16], year % 100);
    two_digits(&mut text[17..19], second_of_day / 3600);
    two_digits(&mut text[20..22], second_of_day / 60 % 60);
    two_digits(&mut text[23..25], second_of_day % 60);
    text
}

/// Year, month and day of the Gregorian calendar, counted from a year that starts in March, so that the leap day comes
/// last: a year is then 365.2425 days, and five months are 153.
fn civil(unix_days: u64) -> (u64, u64, u64) {
    let days = unix_days + DAYS_TO_1970;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (400 * era + year_of_era + u64::from(month <= 2), month, day)
}

fn two_digits(text: &mut [u8], number: u64) {
    text[0] = DIGITS[index(number / 10)];
    text[1] = DIGITS[index(number % 10)];
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("weekdays, months and digits are small")
}

const DIGITS: &[u8; 10] = b"0123456789";
const WEEKDAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// The Gregorian calendar repeats after 400 years.
const DAYS_PER_ERA: u64 = 146_097;

/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;

/// 9999-12-31 23:59:59.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        for (unix, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), // RFC 9110 §5.6.7
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (2_147_483_648, "Tue, 19 Jan 2038 03:14:08 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&imf_fixdate(unix)).unwrap(), expected);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = civil(0);
        for days in 1..150_000 {
            let next = civil(days);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last =
                [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][index(month - 1)];
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, month + 1, 1),
                (_, day) => (year, month, day + 1),
            };
            assert_eq!(next, (year, month, day));
        }
    }
}
