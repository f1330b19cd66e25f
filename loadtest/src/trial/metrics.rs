//! The gateway's metrics, read as Prometheus reads them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Where they are.
pub(super) struct Metrics {
    address: SocketAddr,
}

/// All counters at some moment, by name with labels.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample(BTreeMap<String, f64>);

impl Metrics {
    pub(super) fn new(address: SocketAddr) -> Metrics {
        Metrics { address }
    }

    /// Whether the gateway serves.
    pub(super) async fn is_ready(&self) -> bool {
        self.get("/readyz").await.is_ok()
    }

    /// Reads all of them.
    pub(super) async fn scrape(&self) -> io::Result<Sample> {
        Ok(Sample::parse(&self.get("/metrics").await?))
    }

    /// The body of an answer 200.
    async fn get(&self, path: &str) -> io::Result<String> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await?;
            // HTTP/1.0, so that the body ends with the connection.
            let head = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address);
            stream.write_all(head.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        let answer = timeout(ANSWER_MAX, exchange).await.map_err(io::Error::from)??;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        match head.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(io::Error::other(head.lines().next().unwrap_or("no answer").to_owned())),
        }
    }
}

impl Sample {
    fn parse(text: &str) -> Sample {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Sample(values.collect())
    }

    /// By how much a counter has grown since `before`, over all of its series whose labels have these values. Counters that are not
    /// there have counted nothing.
    pub(super) fn since(&self, before: &Sample, name: &str, labels: &[(&str, &str)]) -> u64 {
        let wanted: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let series = self.0.iter().filter(|(series, _)| {
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            let has = |label: &String| rest.trim_end_matches('}').split(',').any(|part| part == label);
            found == name && wanted.iter().all(has)
        });
        let grown = series.map(|(series, value)| value - before.0.get(series).unwrap_or(&0.0));
        grown.sum::<f64>().round() as u64
    }
}

const ANSWER_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_added_up_by_their_labels() {
        let before = Sample::parse("# TYPE a counter\na{x=\"1\",y=\"2\"} 3\nb 7\n");
        let now = Sample::parse(
            "a{x=\"1\",y=\"2\"} 5\na{x=\"1\",y=\"3\"} 10\na{x=\"2\",y=\"2\"} 100\nab{x=\"1\"} 1000\nb 8.0\n",
        );
        assert_eq!(now.since(&before, "a", &[("x", "1")]), 12);
        assert_eq!(now.since(&before, "a", &[("x", "1"), ("y", "2")]), 2);
        assert_eq!(now.since(&before, "a", &[]), 112);
        assert_eq!(now.since(&before, "b", &[]), 1);
        assert_eq!(now.since(&before, "c", &[]), 0);
    }
}
