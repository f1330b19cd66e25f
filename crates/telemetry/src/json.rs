//! Records as log lines: one JSON object per line, a constant `msg` plus fields. Runs on the log writer's thread only.
//!
//! Whatever a peer put into a text stays inside its string and shows nothing to a terminal: control characters, also
//! those of Unicode, and line separators are escaped, bytes that are no UTF-8 become U+FFFD. Members whose value is
//! not known are left out.

use std::fmt::{Display, Write as _};
use std::net::SocketAddr;

use time::OffsetDateTime;

use crate::closed::{ADMITTED, GrpcStatus, Level, Resumed, TunnelEvent};
use crate::record::{
    AccessRecord, ConnectionFacts, EventRecord, Excerpt, HandshakeRecord, Record, TextField,
};
use crate::registry::Names;

/// Formats records. Keeps what can be reused from line to line.
#[derive(Debug, Default)]
pub(crate) struct Formatter {
    second: Second,
}

impl Formatter {
    /// Appends the line of a record.
    pub(crate) fn line(&mut self, out: &mut Vec<u8>, names: &Names, record: &Record) {
        match record {
            Record::Access(record) => self.access(out, names, record),
            Record::Handshake(record) => self.handshake(out, names, record),
            Record::Event(record) => self.event(out, record),
        }
    }

    /// Appends the line that stands for failed handshakes that got none.
    pub(crate) fn suppressed(&mut self, out: &mut Vec<u8>, now_unix_ns: u64, suppressed: u64) {
        let mut line = self.begin(out, now_unix_ns, Level::Info, "failed handshakes not logged one by one");
        line.number("suppressed", suppressed);
        line.end();
    }

    fn access(&mut self, out: &mut Vec<u8>, names: &Names, record: &AccessRecord) {
        let mut line = self.begin(out, record.started_unix_ns, Level::Info, "request");
        if let Some(connection) = &record.connection {
            line.raw(connection.rendered.get_or_init(|| connection_members(names, connection)));
        }
        record.client.into_iter().for_each(|client| line.displayed("client.addr", client));
        line.field(record, "forwarded.id", TextField::ForwardedId);
        line.field(record, "forwarded.fingerprint", TextField::ForwardedFingerprint);
        line.field(record, "forwarded.tenant", TextField::ForwardedTenant);
        line.field(record, "forwarded.identity", TextField::ForwardedIdentity);
        line.field(record, "request.id", TextField::RequestId);
        line.field(record, "method", TextField::Method);
        line.field(record, "host", TextField::Host);
        line.field(record, "path", TextField::Path);
        line.text("protocol", record.protocol);
        line.some("route", record.route.map(|id| &*names.routes.name(id.0).1));
        line.number("status", u64::from(record.status));
        line.some("grpc_status", record.grpc_status.map(GrpcStatus::as_str));
        line.some("flag", record.flag);
        line.some("tunnel", record.tunnel.map(TunnelEvent::as_str));
        line.some("policy", record.policy.map(|id| &**names.policies.name(id.0)));
        line.some("decision", record.decision.map(|decision| decision.as_str()));
        line.boolean("cached", record.cached);
        line.field(record, "rule", TextField::Rule);
        line.field(record, "reason", TextField::Reason);
        // Cut it would be no JSON any more.
        if let Some((metadata, false)) = record.text(TextField::Metadata) {
            line.raw(b",\"metadata\":");
            line.raw(metadata);
        }
        line.some("cluster", record.cluster.map(|id| &**names.clusters.name(id.0)));
        line.some("mirror", record.mirror.map(|id| &**names.clusters.name(id.0)));
        if let Some(upstream) = &record.upstream {
            line.displayed("upstream.addr", upstream);
            line.number("attempts", u64::from(record.attempts));
        }
        line.number("received_bytes", record.received_bytes);
        line.number("sent_bytes", record.sent_bytes);
        line.number("duration_us", record.duration_ns / NS_PER_US);
        line.taken("policy_us", record.policy_ns);
        line.taken("upstream_connect_us", record.upstream_connect_ns);
        line.taken("upstream_first_byte_us", record.upstream_first_byte_ns);
        line.number("generation", record.generation);
        line.end();
    }

    fn handshake(&mut self, out: &mut Vec<u8>, names: &Names, record: &HandshakeRecord) {
        let mut line = self.begin(out, record.time_unix_ns, Level::Info, "handshake failed");
        line.id("connection.id", record.connection_id);
        line.number("worker", u64::from(record.worker));
        line.text("listener", names.listeners.name(record.listener.0));
        line.address("downstream.addr", record.downstream);
        record.proxy.into_iter().for_each(|proxy| line.address("proxy.addr", proxy));
        line.excerpt("tls.server_name", record.server_name.as_ref());
        line.text("reason", record.reason);
        line.excerpt("detail", record.detail.as_ref());
        line.excerpt("presented.subject", record.presented_subject.as_ref());
        line.excerpt("presented.fingerprint", record.presented_fingerprint.as_ref());
        line.excerpt("peer.tenant", record.tenant.as_ref());
        line.some("tls.resumed", record.resumed.map(Resumed::as_str));
        line.some("tls.resumption_declined", record.resumption_declined);
        line.some("observed.verdict", record.observed);
        line.number("duration_us", record.duration_ns / NS_PER_US);
        line.number("generation", record.generation);
        line.end();
    }

    fn event(&mut self, out: &mut Vec<u8>, record: &EventRecord) {
        let mut line = self.begin(out, record.time_unix_ns, record.level, record.message);
        for (name, value) in &record.fields {
            line.text(name, value.as_str());
        }
        line.end();
    }

    fn begin<'a>(
        &mut self,
        out: &'a mut Vec<u8>,
        time_unix_ns: u64,
        level: Level,
        message: &'static str,
    ) -> Line<'a> {
        out.extend_from_slice(b"{\"time\":\"");
        self.second.write(out, time_unix_ns);
        out.push(b'"');
        let mut line = Line(out);
        line.text("level", level.as_str());
        line.text("msg", message);
        line
    }
}

/// A time in seconds since the Unix epoch as the log writes times.
pub(crate) fn time_text(unix: i64) -> String {
    let mut text = Vec::new();
    Second::default().write(&mut text, u64::try_from(unix).unwrap_or(0).saturating_mul(NS_PER_S));
    String::from_utf8(text).expect("digits and punctuation")
}

/// The members that every exchange of a connection repeats, each with the comma in front.
fn connection_members(names: &Names, facts: &ConnectionFacts) -> Box<[u8]> {
    let mut members = Vec::new();
    let mut line = Line(&mut members);
    line.id("connection.id", facts.id);
    line.number("worker", u64::from(facts.worker));
    line.text("listener", names.listeners.name(facts.listener.0));
    line.address("downstream.addr", facts.downstream);
    facts.proxy.into_iter().for_each(|proxy| line.address("proxy.addr", proxy));
    line.excerpt("tls.server_name", facts.server_name.as_ref());
    line.some("tls.resumed", facts.resumed.map(Resumed::as_str));
    line.some("tls.resumption_declined", facts.resumption_declined);
    if let Some(auth_time_unix) = facts.auth_time_unix {
        line.time("tls.auth_time", auth_time_unix);
    }
    if let Some(peer) = &facts.peer {
        line.text("peer.id", peer.name.as_str());
        line.text("peer.fingerprint", peer.fingerprint.as_str());
        line.text("peer.issuer", peer.issuer.as_str());
        line.text("peer.serial", peer.serial.as_str());
        line.time("peer.not_after", peer.not_after_unix);
        if let Some(tenant) = &peer.tenant {
            line.text("peer.tenant", tenant.name.as_str());
            line.text("peer.identity", tenant.identity.as_str());
        }
    }
    if let Some(observed) = &facts.observed {
        line.text("observed.id", observed.name.as_str());
        line.text("observed.fingerprint", observed.fingerprint.as_str());
        line.text("observed.verdict", observed.refused.unwrap_or(ADMITTED));
        line.excerpt("observed.detail", observed.detail.as_ref());
    }
    members.into()
}

/// A line that has its first member already.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    fn text(&mut self, key: &'static str, value: &str) {
        self.bytes(key, value.as_bytes());
    }

    fn some(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn excerpt(&mut self, key: &'static str, value: Option<&Excerpt>) {
        self.some(key, value.map(Excerpt::as_str));
    }

    fn field(&mut self, record: &AccessRecord, key: &'static str, field: TextField) {
        if let Some((value, cut)) = record.text(field) {
            self.bytes(key, value);
            if cut {
                // `path` and `path_cut`: who compares paths must see that this one is not whole.
                self.0.extend_from_slice(b",\"");
                self.0.extend_from_slice(key.as_bytes());
                self.0.extend_from_slice(b"_cut\":true");
            }
        }
    }

    fn bytes(&mut self, key: &'static str, value: &[u8]) {
        self.key(key);
        self.0.push(b'"');
        escape(self.0, value);
        self.0.push(b'"');
    }

    fn boolean(&mut self, key: &'static str, value: Option<bool>) {
        if let Some(value) = value {
            self.key(key);
            self.0.extend_from_slice(if value { b"true" } else { b"false" });
        }
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// A time in seconds since the Unix epoch. For what is written once per connection.
    fn time(&mut self, key: &'static str, unix: i64) {
        self.text(key, &time_text(unix));
    }

    /// A duration in microseconds, unless the step was not taken.
    fn taken(&mut self, key: &'static str, duration_ns: u64) {
        if duration_ns > 0 {
            self.number(key, duration_ns / NS_PER_US);
        }
    }

    /// An id as a string: readers of JSON round large numbers.
    fn id(&mut self, key: &'static str, id: u64) {
        self.key(key);
        self.0.push(b'"');
        for shift in (0..16).rev() {
            self.0.push(HEX[(id >> (shift * 4)) as usize & 15]);
        }
        self.0.push(b'"');
    }

    fn address(&mut self, key: &'static str, address: SocketAddr) {
        self.displayed(key, address);
    }

    fn displayed(&mut self, key: &'static str, value: impl Display) {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(text, "{value}");
        self.text(key, &text);
    }

    /// Members that were rendered before.
    fn raw(&mut self, members: &[u8]) {
        self.0.extend_from_slice(members);
    }

    fn key(&mut self, key: &'static str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }
}

/// Appends a text as the inside of a JSON string (RFC 8259 section 7).
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    if text.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            escape_char(out, c);
        }
        if !chunk.invalid().is_empty() {
            escape_char(out, char::REPLACEMENT_CHARACTER);
        }
    }
}

fn escape_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        c if c.is_control() || changes_display(c) => {
            // All of these lie in the basic plane.
            let code = c as u32;
            out.extend_from_slice(b"\\u");
            out.extend([12, 8, 4, 0].map(|shift| HEX[(code >> shift) as usize & 15]));
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Line separators and the characters that turn the direction of text around, with which a path could show another one.
fn changes_display(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The date and time of the second written last, since most lines share it with the line before.
#[derive(Debug, Default)]
struct Second {
    unix: u64,
    text: String,
}

impl Second {
    /// Appends a time in RFC 3339 with milliseconds, UTC.
    fn write(&mut self, out: &mut Vec<u8>, unix_ns: u64) {
        let second = unix_ns / NS_PER_S;
        if self.text.is_empty() || second != self.unix {
            // 64 bits of nanoseconds end in the year 2554, well inside the range.
            let time =
                OffsetDateTime::from_unix_timestamp(second as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            let (year, month, day) = time.to_calendar_date();
            let (hour, minute, second_of_minute) = time.to_hms();
            self.text.clear();
            // Writing to a string cannot fail.
            let _ = write!(
                self.text,
                "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second_of_minute:02}",
                u8::from(month)
            );
            self.unix = second;
        }
        let ms = unix_ns % NS_PER_S / NS_PER_MS;
        out.extend_from_slice(self.text.as_bytes());
        out.extend([b'.', digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
    }
}

fn digit(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const NS_PER_US: u64 = 1_000;
const NS_PER_MS: u64 = 1_000_000;
const NS_PER_S: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
