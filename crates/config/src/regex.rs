//! Regular expressions over what clients send, bounded before they ever run.
//!
//! Hides the automaton. An expression becomes a table of states, whose size has a limit, when the configuration is loaded;
//! matching is then one step per byte, whatever the text is. Nothing is allocated and nothing is shared that would have to
//! be locked, which is why this is no `Regex` of the `regex` crate: that one keeps its scratch memory in a pool.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

/// A regular expression in the syntax of the `regex` crate, without Unicode classes: it sees bytes. It always has to match the
/// whole text.
#[derive(Clone)]
pub struct BoundedRegex {
    text: Box<str>,
    automaton: Arc<dense::DFA<Vec<u32>>>,
}

impl BoundedRegex {
    /// Compiles an expression.
    ///
    /// # Errors
    /// [`RegexError`] if it is none, or one that would take more than 256 KiB.
    pub fn new(text: &str) -> Result<Self, RegexError> {
        if text.len() > REGEX_BYTES_MAX {
            return Err(RegexError::TooLong);
        }
        let automaton = dense::Builder::new()
            .syntax(syntax::Config::new().unicode(false).utf8(false).nest_limit(NEST_MAX))
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(NFA_BYTES_MAX)))
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Anchored)
                    // All alternatives stay in play, since the whole text has to match.
                    .match_kind(MatchKind::All)
                    .dfa_size_limit(Some(DFA_BYTES_MAX))
                    .determinize_size_limit(Some(BUILD_BYTES_MAX)),
            )
            .build(text)
            .map_err(RegexError::from)?;
        Ok(Self { text: text.into(), automaton: Arc::new(automaton) })
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole text matches.
    pub fn is_match(&self, text: impl IntoIterator<Item = u8>) -> bool {
        let Some(mut state) = self.start() else { return false };
        for byte in text {
            state = self.automaton.next_state(state, byte);
            if self.automaton.is_dead_state(state) {
                return false;
            }
        }
        self.automaton.is_match_state(self.automaton.next_eoi_state(state))
    }

    /// What every text that matches begins with, as far as that is a single one.
    pub(crate) fn literal_prefix(&self) -> Vec<u8> {
        let mut prefix = Vec::new();
        let Some(mut state) = self.start() else { return prefix };
        while prefix.len() < REGEX_BYTES_MAX
            && !self.automaton.is_match_state(self.automaton.next_eoi_state(state))
        {
            let step = |byte: u8| (byte, self.automaton.next_state(state, byte));
            let mut alive = (0..=u8::MAX).map(step).filter(|(_, next)| !self.automaton.is_dead_state(*next));
            let (Some((byte, next)), None) = (alive.next(), alive.next()) else { break };
            prefix.push(byte);
            state = next;
        }
        prefix
    }

    /// One of the shortest texts that match, of characters that need no escape in a path; `None` if there is none.
    pub fn example(&self) -> Option<String> {
        let start = self.start()?;
        // By state: the state before it, and the byte that led here.
        let mut known = HashMap::from([(start, None)]);
        let mut waiting = VecDeque::from([start]);
        while let Some(state) = waiting.pop_front() {
            if self.automaton.is_match_state(self.automaton.next_eoi_state(state)) {
                let mut text = String::new();
                let mut at = state;
                while let Some(Some((before, byte))) = known.get(&at) {
                    text.insert(0, char::from(*byte));
                    at = *before;
                }
                return Some(text);
            }
            for &byte in EXAMPLE_BYTES {
                let next = self.automaton.next_state(state, byte);
                if !self.automaton.is_dead_state(next) && !known.contains_key(&next) {
                    known.insert(next, Some((state, byte)));
                    waiting.push_back(next);
                }
            }
        }
        None
    }

    fn start(&self) -> Option<StateID> {
        self.automaton.start_state(&start::Config::new().anchored(Anchored::Yes)).ok()
    }
}

impl PartialEq for BoundedRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for BoundedRegex {}

impl fmt::Debug for BoundedRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoundedRegex").field(&self.text).finish()
    }
}

/// Why a text is not a regular expression that is taken here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegexError {
    /// More than 1024 bytes.
    #[error("it is longer than {REGEX_BYTES_MAX} bytes")]
    TooLong,
    /// Its automaton has more than 256 KiB.
    #[error("it needs too many states: large repetitions and wide classes multiply")]
    TooLarge,
    /// It has no meaning, or one that is not known here.
    #[error("{0}")]
    Syntax(String),
}

impl From<dense::BuildError> for RegexError {
    fn from(error: dense::BuildError) -> Self {
        // Where in the text it is, is drawn over several lines; the last says what it is.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let said = cause.to_string();
        let last = said.lines().next_back().unwrap_or_default().trim_start_matches("error: ").to_owned();
        if said.contains("limit") { Self::TooLarge } else { Self::Syntax(last) }
    }
}

/// An expression that nobody could read.
const REGEX_BYTES_MAX: usize = 1024;
/// Parentheses in parentheses; more is a slip.
const NEST_MAX: u32 = 32;
/// Its table stays in a core's second cache.
const DFA_BYTES_MAX: usize = 256 << 10;
/// What compiling may take on the way, so that a hostile configuration cannot take the process down.
const NFA_BYTES_MAX: usize = 256 << 10;
const BUILD_BYTES_MAX: usize = 1 << 20;

/// RFC 3986 §2.3, and what separates segments and words.
const EXAMPLE_BYTES: &[u8] =
    b"/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._~:@!$&'()*+,;=";

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(regex: &str, text: &str) -> bool {
        BoundedRegex::new(regex).unwrap().is_match(text.bytes())
    }

    #[test]
    fn the_whole_text_has_to_match() {
        for (regex, text, expected) in [
            ("/v[0-9]+/x", "/v1/x", true),
            ("/v[0-9]+/x", "/v1/x/", false),
            ("/v[0-9]+/x", "a/v1/x", false),
            ("a|ab", "ab", true),
            ("a|b", "ab", false),
            ("a)|(b", "b", false),
            ("", "", true),
            ("", "a", false),
            ("a.*z", "a\nz", false),
            ("(?i)abc", "ABC", true),
            ("^a$", "a", true),
            ("a*?", "aaaa", true),
        ] {
            let found = BoundedRegex::new(regex).is_ok_and(|regex| regex.is_match(text.bytes()));
            assert_eq!(found, expected, "{regex} on {text}");
        }
        assert!(is_match("[^/]+", "caf\u{e9}"), "bytes above ASCII are bytes");
    }

    #[test]
    fn what_would_grow_is_refused() {
        for regex in ["(a|b)*a(a|b){40}", "x{1000}{1000}", "(?:[a-z]{1,200}){1,200}"] {
            assert_eq!(BoundedRegex::new(regex).unwrap_err(), RegexError::TooLarge, "{regex}");
        }
        assert_eq!(BoundedRegex::new(&"a".repeat(1025)).unwrap_err(), RegexError::TooLong);
        assert!(BoundedRegex::new(&"a".repeat(1024)).is_ok());
        for regex in ["(", "a{2", "\\p{L}", "(?=a)", "\\1", &"(".repeat(200)] {
            assert!(matches!(BoundedRegex::new(regex), Err(RegexError::Syntax(_))), "{regex}");
        }
    }

    #[test]
    fn an_example_is_as_short_as_any() {
        for (regex, example) in
            [("/v[0-9]+/[a-z]+", Some("/v0/a")), ("/x(yz)*", Some("/x")), ("/[%]", None), ("/.+", Some("//"))]
        {
            assert_eq!(BoundedRegex::new(regex).unwrap().example().as_deref(), example, "{regex}");
        }
    }

    #[test]
    fn the_beginning_that_all_have() {
        for (regex, prefix) in [
            ("/api/v[12]/x", "/api/v"),
            ("/api(/x)?", "/api"),
            ("/(a|b)", "/"),
            ("/(ab|ac)", "/a"),
            ("/a", "/a"),
            (".*", ""),
        ] {
            let found = BoundedRegex::new(regex).unwrap().literal_prefix();
            assert_eq!(String::from_utf8(found).unwrap(), prefix, "{regex}");
        }
    }
}
