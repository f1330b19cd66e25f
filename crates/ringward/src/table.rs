//! Tables, moments and spans of time, as commands print them.

use std::fmt;

use time::OffsetDateTime;
use time::macros::format_description;

/// Rows under headings, in columns as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// With headings and without rows.
    pub(crate) fn new(headings: &[&str; N]) -> Table<N> {
        Table { rows: vec![headings.map(str::to_owned)] }
    }

    /// Adds a row. What is not for terminals (a name in a certificate may hold anything) is shown as `?`.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| printable(&cell)));
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    /// Nothing if there are no rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.len() == 1 {
            return Ok(());
        }
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..N).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("  {cell:width$}"));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Text without characters that a terminal would take as orders.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A moment, to the second, in UTC.
pub(crate) fn moment(unix: i64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    let text = OffsetDateTime::from_unix_timestamp(unix).ok().and_then(|time| time.format(&format).ok());
    text.unwrap_or_else(|| format!("@{unix}"))
}

/// A span of time in its two largest units; `over` if it is negative.
pub(crate) fn span(seconds: i64) -> String {
    if seconds < 0 {
        return "over".to_owned();
    }
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(units.len() - 1);
    let (unit, name) = units[first];
    let rest = units.get(first + 1).map(|(smaller, name)| (seconds % unit / smaller, *name));
    match rest {
        Some((count @ 1.., smaller)) => format!("{}{name} {count}{smaller}", seconds / unit),
        _ => format!("{}{name}", seconds / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_harmless() {
        let mut table = Table::new(&["a", "long heading"]);
        assert_eq!(table.to_string(), "");
        table.row(["wide cell".to_owned(), "x".to_owned()]);
        table.row(["\u{1b}[2J".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "  a          long heading\n  wide cell  x\n  ?[2J\n");
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(moment(1_000_000_000), "2001-09-09 01:46:40Z");
        assert_eq!(moment(i64::MAX), format!("@{}", i64::MAX));
        for (seconds, text) in [
            (-1, "over"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_661, "1h 1m"),
            (90_000, "1d 1h"),
            (86_401, "1d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
