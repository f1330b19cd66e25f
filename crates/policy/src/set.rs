//! The sources of one policy, exactly as read, with the digest that names them.
//!
//! Everything else works on these bytes and on nothing else, so what a child process checked is what a worker runs.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::input::shape::InputShape;

/// What the sources of a set are written in, and which engine decides by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Rego.
    Rego,
    /// The tables of the matcher.
    Matcher,
    /// Cedar.
    Cedar,
}

/// One file of a policy set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name shown in errors; its ending decides what the file is.
    pub path: String,
    /// The file's content, as it was read: large ones are not copied.
    pub bytes: Arc<Vec<u8>>,
}

impl Source {
    /// A source from its path and content.
    pub fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), bytes: Arc::new(bytes.into()) }
    }

    /// What the ending of the path says the file is; `None` if it is nothing that a policy set may hold.
    pub fn kind(&self) -> Option<SourceKind> {
        SourceKind::of(&self.path)
    }
}

/// What a source holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// `*.rego`: rules that requests are decided by.
    Policy,
    /// `*_test.rego`: checked like the rest and run by the tests, never loaded for requests.
    PolicyTest,
    /// `*.json`: a data document.
    Json,
    /// `*.yaml` or `*.yml`: a data document.
    Yaml,
}

impl SourceKind {
    /// The kind of a file of this name.
    pub fn of(path: &str) -> Option<Self> {
        let (stem, ending) = path.rsplit_once('.')?;
        match ending {
            "rego" if stem.ends_with("_test") => Some(Self::PolicyTest),
            "rego" => Some(Self::Policy),
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Bounds of one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest evaluation of one request in real time; afterwards the decision is an error. The clock is looked at
    /// between the steps of the interpreter, see `builtins::bounded` for what one step may do.
    pub time_budget: Duration,
    /// Most files in a set.
    pub files_max: usize,
    /// Most bytes in one `.rego` file. regorus itself refuses more than 1 MiB, 20,000 lines or 1,024 columns.
    pub policy_bytes_max: usize,
    /// Most bytes in one data document.
    pub data_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time_budget: Duration::from_millis(5),
            files_max: 256,
            policy_bytes_max: 256 * 1024,
            data_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// A whole policy: its language and sources, the rule that decides, its bounds, the shape of its input and the digest over all of
/// these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySet {
    language: Language,
    sources: Vec<Source>,
    rule: String,
    limits: Limits,
    input: InputShape,
    digest: [u8; 32],
}

impl PolicySet {
    /// A set of these sources in Rego, decided by `rule` (such as `data.ringward.authz.decision`).
    ///
    /// Sources are put in order of their paths, so that the same files give the same digest however they were listed.
    /// Its input is the native one.
    pub fn new(sources: Vec<Source>, rule: impl Into<String>, limits: Limits) -> Self {
        Self::of(Language::Rego, sources, rule.into(), limits)
    }

    /// A set of these sources in a language whose sources decide as a whole: any but Rego.
    pub fn without_rule(language: Language, sources: Vec<Source>, limits: Limits) -> Self {
        Self::of(language, sources, String::new(), limits)
    }

    pub(crate) fn of(language: Language, mut sources: Vec<Source>, rule: String, limits: Limits) -> Self {
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        let input = InputShape::Native;
        let digest = digest(language, &sources, &rule, &limits, input);
        Self { language, sources, rule, limits, input, digest }
    }

    /// The same set with an input of this shape.
    #[must_use]
    pub fn with_input(self, input: InputShape) -> Self {
        let digest = digest(self.language, &self.sources, &self.rule, &self.limits, input);
        Self { input, digest, ..self }
    }

    /// The language of the sources.
    pub fn language(&self) -> Language {
        self.language
    }

    /// The sources in order of their paths.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Path of the deciding rule; empty in any language but Rego.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// The shape of its input.
    pub fn input(&self) -> InputShape {
        self.input
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// SHA-256 over language, paths, contents, rule, bounds and the input's shape.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// Every variable-length part is preceded by its length, so that no two sets share an encoding.
fn digest(
    language: Language,
    sources: &[Source],
    rule: &str,
    limits: &Limits,
    input: InputShape,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(&[language as u8]);
    part(rule.as_bytes());
    part(&limits.time_budget.as_nanos().to_be_bytes());
    for bound in [limits.files_max, limits.policy_bytes_max, limits.data_bytes_max] {
        part(&(bound as u64).to_be_bytes());
    }
    part(input.name().as_bytes());
    for source in sources {
        part(source.path.as_bytes());
        part(&source.bytes);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(sources: &[(&str, &str)], rule: &str) -> PolicySet {
        let sources = sources.iter().map(|(path, text)| Source::new(*path, text.as_bytes())).collect();
        PolicySet::new(sources, rule, Limits::default())
    }

    #[test]
    fn the_digest_follows_content_and_not_order() {
        let one = set(&[("a.rego", "x"), ("b.rego", "y")], "data.r");
        assert_eq!(one.digest(), set(&[("b.rego", "y"), ("a.rego", "x")], "data.r").digest());
        for other in [
            set(&[("a.rego", "x"), ("b.rego", "z")], "data.r"),
            set(&[("a.rego", "xb.rego"), ("", "y")], "data.r"),
            set(&[("a.rego", "x"), ("c.rego", "y")], "data.r"),
            set(&[("a.rego", "x"), ("b.rego", "y")], "data.s"),
            set(&[("a.rego", "x")], "data.r"),
        ] {
            assert_ne!(one.digest(), other.digest());
        }
        let limits = Limits { time_budget: Duration::from_millis(6), ..Limits::default() };
        assert_ne!(one.digest(), PolicySet::new(one.sources().to_vec(), "data.r", limits).digest());
        let shapes: Vec<_> =
            InputShape::ALL.iter().map(|shape| *one.clone().with_input(*shape).digest()).collect();
        assert!(
            shapes[0] == *one.digest() && (1..shapes.len()).all(|at| !shapes[..at].contains(&shapes[at]))
        );
        let of = |language| PolicySet::of(language, one.sources().to_vec(), String::new(), Limits::default());
        let languages =
            [Language::Rego, Language::Matcher, Language::Cedar].map(|language| *of(language).digest());
        assert!(languages[0] != languages[1] && languages[1] != languages[2] && languages[0] != languages[2]);
    }

    #[test]
    fn the_ending_decides_the_kind() {
        assert_eq!(SourceKind::of("d/authz.rego"), Some(SourceKind::Policy));
        assert_eq!(SourceKind::of("d/authz_test.rego"), Some(SourceKind::PolicyTest));
        assert_eq!(SourceKind::of("d.json"), Some(SourceKind::Json));
        assert_eq!(SourceKind::of("d.yml"), Some(SourceKind::Yaml));
        for other in ["README.md", "rego", "a.rego.bak", "a.REGO", ""] {
            assert_eq!(SourceKind::of(other), None, "{other}");
        }
    }
}
