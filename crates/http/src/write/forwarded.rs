//! Saying upstream who asked: `X-Forwarded-*` and `Forwarded` (RFC 7239).
//!
//! The modes differ in what a client may claim about hops before us; the caller's configuration decides. Never invents
//! an address: it writes what it is given.

use super::{Received, WriteError, joined_line, line};
use crate::field::Known;
use crate::token::{eq_as_variable, is_token, starts_as_variable};

/// What becomes of a received provenance field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardMode {
    /// Not our business: received fields pass untouched, nothing is added. Upstreams must not trust them.
    #[default]
    Off,
    /// Clients are not believed: received fields are removed (every `X-Forwarded-*`, also with `_`), ours are written.
    Set,
    /// The client is a trusted hop: ours continues its list. `X-Forwarded-Proto` and `-Host` of the first hop stay.
    Append,
}

/// Who asked, and how to say it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forwarded<'a> {
    /// Mode of `X-Forwarded-For`, `-Proto` and `-Host`.
    pub x_forwarded: ForwardMode,
    /// Mode of `Forwarded`.
    pub forwarded: ForwardMode,
    /// The client's address in text, without port and brackets, for [`ForwardMode::Set`]. Pass an IPv4-mapped address as IPv4.
    pub client_ip: &'a str,
    /// The address of who sent us the request, which continues a list in [`ForwardMode::Append`]: the client's, or that of a
    /// proxy which the list tells the client's address for.
    pub peer_ip: &'a str,
    /// `https` or `http`.
    pub proto: &'a str,
    /// The authority that the client asked for.
    pub host: &'a str,
}

impl Forwarded<'_> {
    /// Whether a received field is taken out of the normal flow: removed, or written again by [`Forwarded::write`].
    pub(super) fn takes(&self, known: Known, name: &[u8]) -> bool {
        match known {
            Known::Forwarded => self.forwarded != ForwardMode::Off,
            Known::Other => match self.x_forwarded {
                ForwardMode::Off => false,
                ForwardMode::Set => starts_as_variable(name, b"x-forwarded-"),
                ForwardMode::Append => {
                    eq_as_variable(name, FOR) || eq_as_variable(name, PROTO) || eq_as_variable(name, HOST)
                }
            },
            _ => false,
        }
    }

    /// Appends our lines, and in [`ForwardMode::Append`] what of the client's they continue.
    pub(super) fn write(&self, out: &mut Vec<u8>, received: Received<'_>) -> Result<(), WriteError> {
        if self.x_forwarded == ForwardMode::Off && self.forwarded == ForwardMode::Off {
            return Ok(());
        }
        if !self.is_writable() {
            return Err(WriteError::BadProvenance);
        }
        // Exact names: a variant with `_` was taken out and does not come back.
        let theirs = |ours: &'static [u8], mode: ForwardMode| {
            received.values(move |_, name| mode == ForwardMode::Append && name.eq_ignore_ascii_case(ours))
        };
        if self.x_forwarded != ForwardMode::Off {
            let theirs_for = theirs(FOR, self.x_forwarded);
            let ours = self.ip(self.x_forwarded);
            joined_line(out, FOR, theirs_for, |out| out.extend_from_slice(ours.as_bytes()));
            for (name, ours) in [(PROTO, self.proto), (HOST, self.host)] {
                let mut theirs = theirs(name, self.x_forwarded).peekable();
                if theirs.peek().is_none() {
                    line(out, name, ours.as_bytes());
                }
                theirs.for_each(|value| line(out, name, value));
            }
        }
        if self.forwarded != ForwardMode::Off {
            let theirs = theirs(b"forwarded", self.forwarded).filter(|value| has_whole_strings(value));
            joined_line(out, b"forwarded", theirs, |out| self.append_element(out));
        }
        Ok(())
    }

    fn ip(&self, mode: ForwardMode) -> &str {
        if mode == ForwardMode::Append { self.peer_ip } else { self.client_ip }
    }

    /// RFC 7239 §4: `forwarded-element`.
    fn append_element(&self, out: &mut Vec<u8>) {
        let ip = self.ip(self.forwarded);
        if ip.contains(':') {
            // RFC 7239 §6: an IPv6 address is bracketed, and therefore quoted.
            for part in ["for=\"[", ip, "]\""] {
                out.extend_from_slice(part.as_bytes());
            }
        } else {
            out.extend_from_slice(b"for=");
            out.extend_from_slice(ip.as_bytes());
        }
        if is_token(self.host.as_bytes()) {
            out.extend_from_slice(b";host=");
            out.extend_from_slice(self.host.as_bytes());
        } else if !self.host.is_empty() {
            for part in [";host=\"", self.host, "\""] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(self.proto.as_bytes());
    }

    /// Only what needs no quoting beyond what [`Forwarded::append_element`] does.
    fn is_writable(&self) -> bool {
        let is_address = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
        let is_authority = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let is_ip = |text: &str| !text.is_empty() && text.bytes().all(is_address);
        is_ip(self.client_ip)
            && is_ip(self.peer_ip)
            && is_token(self.proto.as_bytes())
            && self.host.bytes().all(is_authority)
    }
}

/// Whether every quoted string of a received list ends. One that does not would swallow our element behind it.
fn has_whole_strings(value: &[u8]) -> bool {
    let mut quoted = false;
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted && bytes.next().is_none() => return false,
            _ => {}
        }
    }
    !quoted
}

const FOR: &[u8] = b"x-forwarded-for";
const PROTO: &[u8] = b"x-forwarded-proto";
const HOST: &[u8] = b"x-forwarded-host";
