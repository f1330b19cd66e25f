//! Lines with a limit, as both ends read them.

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Why there is no line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    /// The other end is done.
    #[error("the connection was closed")]
    Closed,
    /// The other end went away in the middle.
    #[error("the connection was closed in the middle of a line")]
    Cut,
    /// Longer than allowed; what follows cannot be told from it any more.
    #[error("a line has more than {0} bytes")]
    TooLong(usize),
    /// The kernel says no.
    #[error("{0}")]
    Io(String),
}

/// Reads a line of at most `bytes_max` bytes, without its end.
pub(super) async fn read(
    from: &mut (impl AsyncBufRead + Unpin),
    bytes_max: usize,
) -> Result<Vec<u8>, LineError> {
    let mut line = Vec::new();
    loop {
        let available = from.fill_buf().await.map_err(|error| LineError::Io(error.to_string()))?;
        if available.is_empty() {
            return Err(if line.is_empty() { LineError::Closed } else { LineError::Cut });
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        // Before it is kept: memory stays within the limit whatever is sent.
        if line.len() + taken > bytes_max {
            return Err(LineError::TooLong(bytes_max));
        }
        line.extend_from_slice(&available[..taken]);
        from.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    async fn lines(text: &str, bytes_max: usize) -> (Vec<String>, LineError) {
        // A buffer of three bytes, so that lines are put together of pieces.
        let mut from = BufReader::with_capacity(3, text.as_bytes());
        let mut found = Vec::new();
        loop {
            match read(&mut from, bytes_max).await {
                Ok(line) => found.push(String::from_utf8(line).unwrap()),
                Err(error) => return (found, error),
            }
        }
    }

    #[tokio::test]
    async fn lines_are_read_up_to_the_limit() {
        let (found, end) = lines("12345\n\nabc\n", 5).await;
        assert_eq!(found, ["12345", "", "abc"], "at the limit");
        assert_eq!(end, LineError::Closed);
        assert_eq!(lines("123456\nabc\n", 5).await, (Vec::new(), LineError::TooLong(5)));
        assert_eq!(lines("123456", 5).await.1, LineError::TooLong(5), "before its end is seen");
        assert_eq!(lines("12\n34", 5).await, (vec!["12".to_owned()], LineError::Cut));
    }
}
