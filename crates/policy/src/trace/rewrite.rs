//! The text of a module with every condition on lines of its own, followed by its witness.
//!
//! Only line breaks, braces around single conditions, and what always holds are added; nothing is taken away.

use crate::ast::{Literal, LiteralStmt, Query, Rule, RuleHead, Span, Visit, place, walk_statement};
use crate::check::rules::{Definition, Kind, Rules};
use crate::trace::inputs;
use crate::trace::variables::{BodyVariables, Names};
use crate::trace::{Body, Condition, Lines, TracedRule};

/// Rewrites the module of this index; its rules with their places in the text.
pub(crate) fn module(rules: &Rules<'_>, module: usize) -> (String, Vec<TracedRule>) {
    let definitions: Vec<&Definition<'_>> =
        rules.definitions.iter().filter(|definition| definition.module == module).collect();
    let mut edits = Edits::default();
    let mut traced: Vec<TracedRule> =
        definitions.iter().map(|definition| trace(rules, definition, &mut edits)).collect();
    let text = rules.modules[module].module.package.span.source.contents();
    let (text, lines) = edits.apply(text);
    // So far they have marks instead of lines.
    for rule in &mut traced {
        let bodies = rule.bodies.iter_mut().map(|body| &mut body.lines);
        for marks in bodies.chain([&mut rule.lines]).flatten() {
            *marks = between(&lines, marks);
        }
        for condition in rule.bodies.iter_mut().flat_map(|body| &mut body.conditions) {
            condition.lines = between(&lines, &condition.lines);
            // It has the line behind its condition.
            condition.witness = condition.lines.end() + 1;
            condition.nested.iter_mut().for_each(|(_, nested)| *nested = between(&lines, nested));
        }
    }
    (text, traced)
}

fn between(lines: &[u32], marks: &Lines) -> Lines {
    lines[*marks.start() as usize]..=lines[*marks.end() as usize]
}

fn trace(rules: &Rules<'_>, definition: &Definition<'_>, edits: &mut Edits) -> TracedRule {
    let mut rule = TracedRule {
        path: definition.path.clone(),
        is_function: matches!(definition.kind, Kind::Function { .. }),
        at: definition.place(),
        lines: None,
        bodies: Vec::new(),
    };
    match definition.rule {
        Rule::Default { span, .. } => rule.lines = Some(edits.around(span)),
        Rule::Spec { span, bodies, .. } if bodies.is_empty() => rule.lines = Some(edits.around(span)),
        Rule::Spec { head, bodies, .. } => {
            let (head, start) = match head {
                RuleHead::Compr { span, .. } | RuleHead::Set { span, .. } | RuleHead::Func { span, .. } => {
                    (one_line(whole(span).text()), span)
                }
            };
            for (index, body) in bodies.iter().enumerate() {
                let begin = if index == 0 { start } else { &body.span };
                let head = if index == 0 { head.clone() } else { before_query(&body.span, &body.query) };
                rule.bodies.push(Body {
                    at: place(begin),
                    head,
                    conditions: conditions(rules, definition, &body.query, edits),
                    lines: body.query.stmts.is_empty().then(|| edits.condition(&body.span)),
                });
            }
        }
    }
    rule
}

/// `else := value` of an `else` with its conditions.
fn before_query(body: &Span, query: &Query) -> String {
    if query.stmts.is_empty() {
        return one_line(whole(body).text());
    }
    let text = body.source.contents().get(body.start as usize..query.span.start as usize).unwrap_or("else");
    one_line(text.trim_end().trim_end_matches("if"))
}

fn conditions(
    rules: &Rules<'_>,
    definition: &Definition<'_>,
    query: &Query,
    edits: &mut Edits,
) -> Vec<Condition> {
    let names: Vec<Names> = query.stmts.iter().map(Names::of).collect();
    let variables = BodyVariables::of(rules, definition, &names);
    // Without braces the condition begins where the query does.
    let bare = query.stmts.first().is_some_and(|only| only.span.start == query.span.start);
    let mut conditions = Vec::new();
    for (statement, names) in query.stmts.iter().zip(&names) {
        if matches!(statement.literal, Literal::SomeVars { .. }) {
            continue;
        }
        let span = whole(&statement.span);
        let first = edits.insert(span.start, if bare { "{\n" } else { "\n" }, Mark::After);
        let mut nested = Nested { edits, found: Vec::new() };
        walk_statement(&mut nested, statement);
        let nested = nested.found;
        let mentioned: Vec<&str> = variables.within(names).collect();
        let mut witness = format!(";\n[1, {}]\n", mentioned.join(", ")).replace(", ]", "]");
        if bare {
            witness.push('}');
        }
        let last = edits.insert(span.end, &witness, Mark::Before);
        conditions.push(Condition {
            at: place(&span),
            text: one_line(span.text()),
            lines: first..=last,
            witness: 0,
            nested,
            inputs: inputs::of(rules, definition.module, query, statement).into_iter().collect(),
        });
    }
    conditions
}

/// Statements within a statement.
struct Nested<'e> {
    edits: &'e mut Edits,
    found: Vec<(u32, Lines)>,
}

impl Visit for Nested<'_> {
    fn statement(&mut self, statement: &LiteralStmt) {
        if !matches!(statement.literal, Literal::SomeVars { .. }) {
            let span = whole(&statement.span);
            let first = self.edits.insert(span.start, "\n", Mark::After);
            walk_statement(self, statement);
            let last = self.edits.insert(span.end, "\n", Mark::Before);
            self.found.push((place(&span).line, first..=last));
        }
    }
}

/// Insertions into a text, each with a mark whose line is asked for.
#[derive(Default)]
struct Edits {
    insertions: Vec<(u32, String, Mark)>,
}

/// Which line is meant.
#[derive(Clone, Copy)]
enum Mark {
    /// The one before the insertion.
    Before,
    /// The one behind it.
    After,
}

impl Edits {
    /// Inserts at a byte of the text. Returns the number of the mark.
    fn insert(&mut self, at: u32, text: &str, mark: Mark) -> u32 {
        self.insertions.push((at, text.to_owned(), mark));
        self.insertions.len() as u32 - 1
    }

    /// Gives what the span covers lines of its own.
    fn around(&mut self, span: &Span) -> Lines {
        let span = whole(span);
        let first = self.insert(span.start, "\n", Mark::After);
        first..=self.insert(span.end, "\n", Mark::Before)
    }

    /// Gives a body without conditions one that holds; values of an `else` are not recorded. Returns where it is.
    fn condition(&mut self, body: &Span) -> Lines {
        let end = whole(body).end;
        let first = self.insert(end, " if {\n", Mark::After);
        first..=self.insert(end, "[1]\n}", Mark::Before)
    }

    /// The text with all insertions, and the line of each mark.
    fn apply(self, text: &str) -> (String, Vec<u32>) {
        let mut order: Vec<usize> = (0..self.insertions.len()).collect();
        // Stable: what was inserted first at a place comes first.
        order.sort_by_key(|&index| self.insertions[index].0);
        let (mut out, mut done, mut line) = (String::with_capacity(text.len() * 2), 0, 1);
        let mut lines = vec![0; self.insertions.len()];
        let push = |out: &mut String, line: &mut u32, part: &str| {
            *line += part.bytes().filter(|byte| *byte == b'\n').count() as u32;
            out.push_str(part);
        };
        for index in order {
            let (at, insertion, mark) = &self.insertions[index];
            let at = *at as usize;
            push(&mut out, &mut line, text.get(done..at).unwrap_or_default());
            done = at;
            let before = line;
            push(&mut out, &mut line, insertion);
            lines[index] = match mark {
                Mark::Before => before,
                Mark::After => line,
            };
        }
        push(&mut out, &mut line, text.get(done..).unwrap_or_default());
        (out, lines)
    }
}

/// The span with its quotes: those of a string are left out by the parser where a span begins or ends with one.
fn whole(span: &Span) -> Span {
    let text = span.source.contents().as_bytes();
    let is_quote = |at: Option<u32>| {
        at.and_then(|at| text.get(at as usize)).is_some_and(|byte| matches!(byte, b'"' | b'`'))
    };
    let (before, behind) = (is_quote(span.start.checked_sub(1)), is_quote(Some(span.end)));
    Span { start: span.start - u32::from(before), end: span.end + u32::from(behind), ..span.clone() }
}

/// A part of a source on one line, comments left out.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(|line| match line.trim() {
        comment if comment.starts_with('#') => "",
        line => line,
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
