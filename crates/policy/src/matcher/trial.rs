//! `[[test]]`: requests that a table decides whenever it is loaded.

use std::sync::Arc;
use std::time::Instant;

use crate::input::facts::Facts;
use crate::input::view::{HeaderSource, RequestView, RouteView};
use crate::matcher::Matcher;
use crate::matcher::raw::Effect;
use crate::problem::{FailedStatement, Place, Problem, Test, TestOutcome};

/// A request, and what has to become of it.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) name: String,
    pub(super) client: Facts,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) host: String,
    pub(super) route: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) expect: Effect,
    pub(super) rule: Option<String>,
    pub(super) at: Place,
}

impl Trial {
    pub(super) fn run(&self, matcher: &Arc<Matcher>) -> Test {
        let started = Instant::now();
        let request = RequestView {
            method: &self.method,
            path: &self.path,
            raw_path: &self.path,
            query: None,
            host: &self.host,
            scheme: "https",
            protocol: "HTTP/1.1",
            id: "",
            headers: &Fields(&self.headers),
            body: None,
            route: RouteView { id: &self.route, ..RouteView::default() },
            now_unix: 0,
        };
        let found = matcher.find(&self.client, &request);
        let effect = found.map_or(Effect::Deny, |rule| rule.effect);
        let name = found.map(|rule| &*rule.name);
        let passed = effect == self.expect && self.rule.as_deref().is_none_or(|wanted| Some(wanted) == name);
        let text = match name {
            Some(name) => format!("rule `{name}` {}s it", effect.as_str()),
            None => "no rule allows it".to_owned(),
        };
        Test {
            name: self.name.clone(),
            file: self.at.file.clone(),
            line: self.at.line,
            outcome: if passed { TestOutcome::Passed } else { TestOutcome::Failed },
            took: started.elapsed(),
            prints: Vec::new(),
            failed: (!passed).then_some(FailedStatement { line: self.at.line, text }),
        }
    }
}

/// The header fields of a test.
struct Fields<'a>(&'a [(String, String)]);

impl HeaderSource for Fields<'_> {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        self.0.iter().for_each(|(name, value)| each(name, value));
    }
}

/// What a failed test says of the table.
pub(super) fn problem(test: &Test) -> Problem {
    let found = test.failed.as_ref().map_or("", |failed| failed.text.as_str());
    Problem::error(&Place::new(&test.file, test.line, 1), format!("test `{}` failed: {found}", test.name))
}
