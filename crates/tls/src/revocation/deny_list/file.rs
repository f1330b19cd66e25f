//! The file of a deny list: a line that says what it is, then one JSON object for each entry.
//!
//! Read strictly: a line that is not understood is an error with its number, never a line skipped, as the
//! entry that it stood for would be lost. Every line ends in a line feed, so one that was cut shows.

use serde::{Deserialize, Serialize};

use super::super::issuer::IssuerId;
use super::super::unhex;
use super::{DenyEntry, DenyList, DenyListError, DenyTarget};
use crate::certificate::hex;

/// The first line.
pub(super) const HEAD: &str = r#"{"ringward_deny_list":1}"#;
/// Most bytes of a line: the longest texts, with every character escaped, are shorter.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024;
/// Of what the reader has to say about a line.
const PROBLEM_CHARACTERS_MAX: usize = 200;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    deny: Target,
    reason: String,
    added: i64,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Target {
    Serial { issuer: String, serial: String },
    Spki(String),
    Fingerprint(String),
    Identity(String),
    Ca(String),
}

impl DenyList {
    /// The file's content, oldest entry first.
    pub fn serialize(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for entry in self.entries() {
            text.push_str(&entry.to_line());
        }
        text
    }

    /// Reads what [`serialize`](Self::serialize) wrote, or what it began and [`DenyEntry::to_line`] continued.
    ///
    /// # Errors
    ///
    /// [`DenyListError::Head`] and [`DenyListError::Line`]. Then the file is not to be used, not even in part.
    pub fn parse(bytes: &[u8]) -> Result<Self, DenyListError> {
        let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
        if lines.next().and_then(|line| line.strip_suffix(b"\n")) != Some(HEAD.as_bytes()) {
            return Err(DenyListError::Head);
        }
        let mut list = Self::new();
        for (index, line) in lines.enumerate() {
            let failed = |problem| DenyListError::Line { line: index + 2, problem };
            let entry = parse_line(line).map_err(failed)?;
            match list.add(entry) {
                Ok(None) => {}
                Ok(Some(_)) => return Err(failed("its target has an entry already".to_owned())),
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        Ok(list)
    }
}

impl DenyEntry {
    /// The entry as a line of the file, line feed included.
    pub fn to_line(&self) -> String {
        let deny = match &self.target {
            DenyTarget::Serial { issuer, serial } => {
                Target::Serial { issuer: issuer.to_string(), serial: serial.to_string() }
            }
            DenyTarget::Spki(hash) => Target::Spki(hex(hash)),
            DenyTarget::Fingerprint(hash) => Target::Fingerprint(hex(hash)),
            DenyTarget::Identity(name) => Target::Identity(name.to_string()),
            DenyTarget::Ca(issuer) => Target::Ca(issuer.to_string()),
        };
        let line = Line {
            deny,
            reason: self.reason.clone(),
            added: self.added_unix,
            by: self.by.clone(),
            expires: self.expires_unix,
        };
        let mut text = serde_json::to_string(&line).expect("strings and numbers only");
        text.push('\n');
        text
    }
}

fn parse_line(line: &[u8]) -> Result<DenyEntry, String> {
    let Some(line) = line.strip_suffix(b"\n") else {
        return Err("it does not end in a line feed, so it was cut".to_owned());
    };
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("it is {} bytes long, and at most {LINE_BYTES_MAX} are read", line.len()));
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| printable(&error))?;
    let target = match line.deny {
        Target::Serial { issuer, serial } => {
            DenyTarget::Serial { issuer: IssuerId(hash(&issuer)?), serial: parse_serial(&serial)? }
        }
        Target::Spki(text) => DenyTarget::Spki(hash(&text)?),
        Target::Fingerprint(text) => DenyTarget::Fingerprint(hash(&text)?),
        Target::Identity(name) => DenyTarget::Identity(name.into()),
        Target::Ca(text) => DenyTarget::Ca(IssuerId(hash(&text)?)),
    };
    Ok(DenyEntry {
        target,
        reason: line.reason,
        added_unix: line.added,
        by: line.by,
        expires_unix: line.expires,
    })
}

/// What is wrong with a line, in one line: the reader quotes what it does not know as it stands there.
fn printable(error: &serde_json::Error) -> String {
    let mut text = String::new();
    for character in error.to_string().chars().take(PROBLEM_CHARACTERS_MAX) {
        if character.is_control() { text.extend(character.escape_default()) } else { text.push(character) }
    }
    text
}

fn parse_serial(text: &str) -> Result<super::Serial, String> {
    text.parse().map_err(|error: super::super::SerialError| error.to_string())
}

fn hash(text: &str) -> Result<[u8; 32], String> {
    unhex(text).ok_or_else(|| "a SHA-256 is written in 64 lower-case hexadecimal digits".to_owned())
}
