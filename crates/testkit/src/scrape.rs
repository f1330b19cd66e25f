//! Reading a Prometheus endpoint.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use crate::DEADLINE;
use crate::http::Incoming;

/// The samples of one scrape, by `name` or `name{label="value",...}` as exposed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(BTreeMap<String, f64>);

/// Fetches and reads `http://{address}/metrics`.
///
/// # Panics
/// If there is no answer, its status is not 200, or its text is not the Prometheus text format.
#[track_caller]
pub fn scrape(address: SocketAddr) -> Samples {
    let mut stream = TcpStream::connect(address).expect("connect to the metrics endpoint");
    stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("send the scrape");
    let mut body = Vec::new();
    let mut sink = |part: &[u8]| body.extend_from_slice(part);
    let response = Incoming::new(stream).response(true, &mut sink).expect("read the scrape");
    assert_eq!(response.status, 200, "status of the scrape");
    Samples::parse(std::str::from_utf8(&body).expect("metrics are UTF-8"))
}

impl Samples {
    /// Reads the Prometheus text format.
    ///
    /// # Panics
    /// On a line that is neither a comment nor a sample.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(|line| parse_sample(line).unwrap_or_else(|| panic!("no sample: {line:?}"))).collect())
    }

    /// The value of exactly this series, as `name` or `name{label="value",...}` in the exposed order.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// The sum over all series of `name` that have all these labels; zero if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let matches = |series: &str| {
            let (own_name, own_labels) = series.split_once('{').unwrap_or((series, "}"));
            let listed = |label: &String| {
                [format!("{label}}}"), format!("{label},")].iter().any(|end| {
                    own_labels.starts_with(end.as_str()) || own_labels.contains(&format!(",{end}"))
                })
            };
            own_name == name && wanted.iter().all(listed)
        };
        self.0.iter().filter(|(series, _)| matches(series)).map(|(_, value)| value).sum()
    }

    /// Series and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(series, value)| (series.as_str(), *value))
    }
}

/// `name{labels} value`; label values may hold blanks, so the series ends at the brace.
fn parse_sample(line: &str) -> Option<(String, f64)> {
    let series_end = match line.rfind('}') {
        Some(brace) => brace + 1,
        None => line.find(' ')?,
    };
    let (series, rest) = line.split_at(series_end);
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((series.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Script, Upstream};

    const TEXT: &str = "# HELP a_total things\n# TYPE a_total counter\n\
        a_total{host=\"x\",reason=\"no certificate\"} 3\na_total{host=\"y\",reason=\"no certificate\"} 4\n\
        a_total{host=\"xy\"} 100\n\nup 1\nratio 2.5e-1 1700000000000\n";

    #[test]
    fn reads_samples() {
        let samples = Samples::parse(TEXT);
        assert_eq!(samples.get("up"), Some(1.0));
        assert_eq!(samples.get("ratio"), Some(0.25));
        assert_eq!(samples.get("a_total{host=\"x\",reason=\"no certificate\"}"), Some(3.0));
        assert_eq!(samples.get("missing"), None);
        assert_eq!(samples.iter().count(), 5);
    }

    #[test]
    fn sums_over_labels() {
        let samples = Samples::parse(TEXT);
        assert_eq!(samples.sum("a_total", &[]), 107.0);
        assert_eq!(samples.sum("a_total", &[("reason", "no certificate")]), 7.0);
        assert_eq!(samples.sum("a_total", &[("host", "x")]), 3.0, "not the host xy");
        assert_eq!(samples.sum("a_total", &[("host", "y"), ("reason", "no certificate")]), 4.0);
        assert_eq!(samples.sum("a_total", &[("ost", "x")]), 0.0, "whole label names");
        assert_eq!(samples.sum("up", &[]), 1.0);
        assert_eq!(samples.sum("missing", &[]), 0.0);
    }

    #[test]
    fn scrapes_an_endpoint() {
        let upstream = Upstream::start();
        upstream.on("/metrics", Script::new().respond(200, &[], TEXT));
        assert_eq!(scrape(upstream.address()), Samples::parse(TEXT));
    }

    #[test]
    #[should_panic(expected = "no sample")]
    fn refuses_other_text() {
        Samples::parse("<html>\n");
    }
}
