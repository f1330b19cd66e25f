//! Static checks of parsed modules, before anything is evaluated.
//!
//! Each submodule looks at one thing and reports all it finds. A policy that passes cannot make the interpreter
//! recurse, call what does not exist or reach outside; whether it decides well is for its tests.

pub(crate) mod advice;
pub(crate) mod body;
pub(crate) mod calls;
pub(crate) mod cycles;
pub(crate) mod entry;
pub(crate) mod headers;
pub(crate) mod lints;
pub(crate) mod literals;
pub(crate) mod missing;
pub(crate) mod names;
pub(crate) mod negation;
pub(crate) mod numbers;
pub(crate) mod patterns;
pub(crate) mod rules;
pub(crate) mod shape;

use regorus::Value;

use crate::check::calls::Impure;
use crate::check::rules::Rules;
use crate::input::shape::InputShape;
use crate::problem::Problem;

/// Checks that rules can be loaded and evaluated, whatever they decide. Returns the impure builtins that they call;
/// `None` if rules are too deep or wide for any further check.
pub(crate) fn soundness(rules: &Rules<'_>, data: &Value, problems: &mut Vec<Problem>) -> Option<Impure> {
    let before = problems.len();
    shape::check(rules, problems);
    if problems.len() > before {
        return None;
    }
    let impure = calls::check(rules, problems);
    cycles::check(rules, problems);
    names::check(rules, data, problems);
    entry::check_data(rules, data, problems);
    Some(impure)
}

/// Checks what rules decide, as far as their text tells; for those of requests, not of tests.
pub(crate) fn meaning(
    rules: &Rules<'_>,
    data: &Value,
    deciding: &str,
    shape: InputShape,
    problems: &mut Vec<Problem>,
) {
    entry::check(rules, deciding, problems);
    lints::check(rules, shape, problems);
    headers::check(rules, shape, problems);
    negation::check(rules, data, shape, problems);
    body::check(rules, shape, problems);
    numbers::check(rules, data, shape, problems);
    patterns::check(rules, problems);
    literals::check(rules, problems);
    missing::check(rules, data, problems);
    advice::check(rules, problems);
}

/// The candidate that `name` is likely a misspelling of.
pub(crate) fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let near = candidates.map(|candidate| (distance(name, candidate), candidate)).min()?;
    // A third of the letters may differ.
    (near.0 > 0 && near.0 * 3 <= name.len().max(3)).then_some(near.1)
}

/// Edit distance in bytes, a transposition counting as one (restricted Damerau-Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j - 1] + same).min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests;
