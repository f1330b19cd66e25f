//! Lexical scan of a Rego source before any parser sees it.
//!
//! regorus' parser takes time exponential in the nesting of brackets (20 levels: 36 s), recurses without bound
//! through operators (`-a*-a*-a...` overflows the stack, which aborts the process) and takes a NUL for the end of the
//! file, which would silently drop every rule behind it. Each is refused here by one pass over the bytes that
//! allocates only a stack of brackets. The scan never accepts or rejects for any other reason: syntax is the parser's.

use crate::problem::{Place, Problem};

/// Deepest nesting of brackets. Policies in the field stay below 6; at 8 one literal still parses in milliseconds.
pub(crate) const NESTING_MAX: usize = 8;

/// Most operators in one expression on one level of brackets, references included (`a.b[c]` has two).
/// Bounds the recursion of the parser; the depth of what it builds is bounded again by `check::shape`.
pub(crate) const OPERATORS_MAX: u32 = 64;

/// Most parser work in one source: the sum over its tokens of 2 to the power of their bracket depth, which is how
/// often the backtracking parser may read a token. A source of ordinary shape and the largest size stays below a tenth.
pub(crate) const WORK_MAX: u64 = 4_000_000;

/// Scans `text`, which is the content of `file`, up to the first thing that makes reading on pointless.
pub(crate) fn scan(file: &str, text: &str) -> Vec<Problem> {
    let mut scan = Scan {
        file,
        bytes: text.as_bytes(),
        at: 0,
        line: 1,
        line_start: 0,
        text,
        work: 0,
        problems: Vec::new(),
    };
    scan.run();
    scan.problems
}

struct Scan<'a> {
    file: &'a str,
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
    line_start: usize,
    work: u64,
    problems: Vec<Problem>,
}

/// What the last token was; decides whether the next one continues the expression.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing that the next token could continue.
    Boundary,
    /// An operand: an identifier, a literal or a closed bracket.
    Operand,
    Operator,
}

/// One level of brackets.
struct Level {
    operators: u32,
    last: Last,
}

impl Level {
    fn new() -> Self {
        Self { operators: 0, last: Last::Boundary }
    }

    fn operand(&mut self) {
        // Two operands in a row cannot belong to one expression: Rego joins operands by operators only.
        if self.last == Last::Operand {
            self.operators = 0;
        }
        self.last = Last::Operand;
    }

    fn boundary(&mut self) {
        *self = Self::new();
    }
}

impl Scan<'_> {
    fn run(&mut self) {
        let mut levels = vec![Level::new()];
        let mut too_long = false;
        let mut new_line = false;
        while let Some(&byte) = self.bytes.get(self.at) {
            let start = self.at;
            self.at += 1;
            let level = levels.last_mut().expect("the outermost level is never popped");
            match byte {
                b' ' | b'\t' | b'\r' => continue,
                b'\n' => {
                    self.next_line();
                    new_line = true;
                    continue;
                }
                b'#' => {
                    self.skip_comment();
                    continue;
                }
                0 => return self.nul(start),
                b'"' => {
                    if !self.skip_string() {
                        return; // The parser refuses an unterminated string and reads nothing behind it.
                    }
                    level.operand();
                }
                b'`' => {
                    if !self.skip_raw_string() {
                        return;
                    }
                    level.operand();
                }
                b'(' | b'[' | b'{' => {
                    match (byte, level.last) {
                        // regorus takes `[` on a new line for a new statement, but not `(`.
                        (b'[', Last::Operand) if !new_line => level.operators += 1,
                        (b'(', Last::Operand) => level.operators += 1,
                        (_, Last::Operand) => level.operators = 0,
                        (_, Last::Boundary | Last::Operator) => {}
                    }
                    too_long |= self.check_operators(level.operators, start, too_long);
                    levels.push(Level::new());
                    if levels.len() - 1 > NESTING_MAX {
                        return self.nesting(start);
                    }
                }
                b')' | b']' | b'}' => {
                    if levels.len() > 1 {
                        levels.pop();
                    }
                    let level = levels.last_mut().expect("the outermost level is never popped");
                    level.last = Last::Operand;
                }
                b',' | b';' => level.boundary(),
                b':' => {
                    self.skip_if(b'=');
                    level.boundary();
                }
                b'=' if self.bytes.get(self.at) != Some(&b'=') => level.boundary(),
                _ if byte.is_ascii_alphanumeric() || byte == b'_' => {
                    if self.word(start) == b"in" {
                        level.operators += 1;
                        level.last = Last::Operator;
                    } else {
                        level.operand();
                    }
                }
                _ => {
                    // Every other byte is an operator, part of one, or no Rego at all.
                    self.skip_if(b'=');
                    level.operators += 1;
                    level.last = Last::Operator;
                }
            }
            new_line = false;
            let operators = levels.last().map_or(0, |level| level.operators);
            too_long |= self.check_operators(operators, start, too_long);
            self.work = self.work.saturating_add(1 << (levels.len() - 1));
            if self.work > WORK_MAX {
                return self.work(start);
            }
        }
    }

    fn next_line(&mut self) {
        self.line += 1;
        self.line_start = self.at;
    }

    fn skip_if(&mut self, byte: u8) {
        if self.bytes.get(self.at) == Some(&byte) {
            self.at += 1;
        }
    }

    fn skip_comment(&mut self) {
        // A NUL ends a comment for regorus too, and everything behind it: stop there to report it.
        while self.bytes.get(self.at).is_some_and(|&byte| byte != b'\n' && byte != 0) {
            self.at += 1;
        }
    }

    /// The rest of a word that began at `start`.
    fn word(&mut self, start: usize) -> &[u8] {
        while self.bytes.get(self.at).is_some_and(|&byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            self.at += 1;
        }
        &self.bytes[start..self.at]
    }

    /// Whether the string was closed. An interpreted string cannot span lines.
    fn skip_string(&mut self) -> bool {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return true;
                }
                b'\\' if !matches!(self.bytes.get(self.at + 1), None | Some(0 | b'\n')) => self.at += 2,
                0 => {
                    self.nul(self.at);
                    return false;
                }
                b'\n' => return false,
                _ => self.at += 1,
            }
        }
        false
    }

    fn skip_raw_string(&mut self) -> bool {
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'`' => return true,
                b'\n' => self.next_line(),
                0 => {
                    self.nul(self.at - 1);
                    return false;
                }
                _ => {}
            }
        }
        false
    }

    /// Whether the cap is exceeded; reports it unless `reported`.
    fn check_operators(&mut self, operators: u32, start: usize, reported: bool) -> bool {
        if operators <= OPERATORS_MAX {
            return false;
        }
        if !reported {
            let at = self.place(start);
            self.problems.push(
                Problem::error(&at, format!("expression has more than {OPERATORS_MAX} operators"))
                    .help("split it into rules, or move lists into a data document"),
            );
        }
        true
    }

    fn nesting(&mut self, start: usize) {
        let at = self.place(start);
        self.problems.push(
            Problem::error(&at, format!("brackets nested deeper than {NESTING_MAX}"))
                .help("split the expression into rules, or move nested literals into a data document"),
        );
    }

    fn work(&mut self, start: usize) {
        let at = self.place(start);
        self.problems.push(
            Problem::error(&at, "too many nested literals for the parser")
                .help("move tables into a data document (*.json or *.yaml)"),
        );
    }

    fn nul(&mut self, start: usize) {
        let at = self.place(start);
        self.problems.push(
            Problem::error(&at, "NUL character in source")
                .help("remove it; the interpreter would ignore every rule behind it"),
        );
    }

    fn place(&self, at: usize) -> Place {
        let column = self.text.get(self.line_start..at).map_or(0, |line| line.chars().count());
        Place::new(self.file, self.line, column as u32 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `line:column message` of the only problem, or nothing.
    fn found(text: &str) -> String {
        let problems = scan("p.rego", text);
        assert!(problems.len() <= 1, "{problems:?}");
        problems.first().map_or(String::new(), |p| format!("{}:{} {}", p.line, p.column, p.message))
    }

    fn nested(open: &str, close: &str, depth: usize) -> String {
        format!("package p\nx := {}1{}\n", open.repeat(depth), close.repeat(depth))
    }

    #[test]
    fn nesting_is_refused_above_the_limit_with_its_place() {
        for (open, close) in [("[", "]"), ("{", "}"), ("(", ")"), ("f(", ")"), ("{\"a\": [", "]}")] {
            let per_unit = open.matches(['[', '{', '(']).count();
            assert_eq!(found(&nested(open, close, NESTING_MAX / per_unit)), "", "{open}");
            let bad = found(&nested(open, close, NESTING_MAX / per_unit + 1));
            assert!(bad.starts_with("2:") && bad.ends_with("brackets nested deeper than 8"), "{bad}");
        }
        assert_eq!(found(&nested("[", "]", 9)), "2:14 brackets nested deeper than 8");
        assert!(found("package p\nx := [\n[\n[\n[\n[\n[\n[\n[\n[").starts_with("10:1 "));
        // Behind a set call without its argument the lexer looks ahead recursively.
        assert!(!found(&format!("package p\nx := {}", "set(\n".repeat(100_000))).is_empty());
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let deep = "[".repeat(50);
        for text in [
            format!("package p\nx := \"{deep}\"\n"),
            format!("package p\nx := \"\\\"{deep}\"\n"),
            format!("package p\nx := `{deep}\n{deep}`\n"),
            format!("package p\n# {deep}\nx := 1 # {deep}\n"),
            format!("package p\nx := `\\` # {deep}\n"),
        ] {
            assert_eq!(found(&text), "", "{text}");
        }
        // What looks like the inside of a string but is not.
        for text in [
            format!("package p\nx := \"#\" {deep}"),
            format!("package p\nx := `\"` {deep}"),
            format!("package p\nx := \"`\" {deep}"),
            format!("package p\nx := \"\\\\\" {deep}"),
            format!("package p\nx := `#` {deep}"),
            format!("package p\n# \"\n{deep}"),
            format!("package p\n# `\n{deep}"),
        ] {
            assert!(found(&text).ends_with("deeper than 8"), "{text}");
        }
    }

    #[test]
    fn places_count_characters_and_lines_inside_raw_strings() {
        assert!(found("package p\nx := `é\n\n`; y := \"é\" + [[[[[[[[[").starts_with("4:23 "));
    }

    #[test]
    fn long_expressions_are_refused() {
        let chain = |operator: &str, operators: usize| {
            format!("package p\nx := 1{}\n", format!("{operator}1").repeat(operators))
        };
        for operator in ["+", " - ", "\n*", "|", "&", " in ", " == ", "+-", "+\n# c\n"] {
            let count = |n: u32| n as usize / if operator == "+-" { 2 } else { 1 };
            assert_eq!(found(&chain(operator, count(OPERATORS_MAX))), "", "{operator}");
            assert!(
                found(&chain(operator, count(OPERATORS_MAX) + 1)).ends_with("64 operators"),
                "{operator}"
            );
        }
        // Right recursion through unary minus, spread over lines.
        assert!(!found(&format!("package p\nx := {}1", "-\n".repeat(100_000))).is_empty());
        assert!(!found(&format!("package p\nx := {}a", "-a *\n".repeat(100_000))).is_empty());
        // References: every link is a level of the tree.
        assert!(!found(&format!("package p\nx := a{}", "[\n0]".repeat(100_000))).is_empty());
        assert!(!found(&format!("package p\nx := a{}", ".b".repeat(500))).is_empty());
    }

    #[test]
    fn long_lists_and_bodies_are_accepted() {
        let rules = "allow if {\n\tinput.request.method == \"GET\"\n\tnot a.b.c.d\n\t[x, y] := f(1 + 2)\n}\n"
            .repeat(500);
        let list =
            format!("x := [{}]\ny := {{{}}}\n", "1.5 + 2,\n".repeat(500), "\"k\": a.b + 1, ".repeat(500));
        let calls = format!("z if {{\n{}}}\n", "f(a)\n[b] = c\ng(a.b.c); h\n".repeat(300));
        assert_eq!(found(&format!("package p\n{rules}{list}{calls}")), "");
    }

    #[test]
    fn many_nested_literals_are_refused() {
        let literal = format!("{}1{},\n", "[".repeat(7), "]".repeat(7));
        assert_eq!(found(&format!("package p\nx := [{}]", literal.repeat(100))), "");
        assert!(found(&format!("package p\nx := [{}]", literal.repeat(10_000))).ends_with("for the parser"));
    }

    #[test]
    fn nul_is_refused_wherever_it_hides() {
        for (text, place) in [
            ("package p\n\0deny := true", "2:1"),
            ("package p # \0\ndeny := true", "1:13"),
            ("package p\nx := \"\0\"", "2:7"),
            ("package p\nx := `\n\0`", "3:1"),
            ("package p\nx := \"\\\0\"", "2:8"),
        ] {
            assert_eq!(found(text), format!("{place} NUL character in source"), "{text:?}");
        }
    }
}
