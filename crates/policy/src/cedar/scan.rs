//! Looks at the text of policies before the parser does: what would take it too deep is refused, with its place.
//!
//! The parser recurses as deep as an expression is, and an expression is no deeper than it has brackets around and operators in
//! it. How deep a policy that was read may be is told apart, by its tree ([`uses`](super::uses)).

use crate::problem::{Place, Problem};

/// What is wrong with a text of policies. Only the first finding: what is behind it is likely wrong for the same reason.
///
/// `policies` is how many there were in other files, and then with those here: roughly, but no fewer than there are.
pub(super) fn scan(file: &str, text: &str, policies: &mut usize) -> Option<Problem> {
    let bytes = text.as_bytes();
    let (mut at, mut brackets, mut operators) = (0, 0_usize, 0_usize);
    // The last byte that is neither space nor comment.
    let mut last = b';';
    while let Some(byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let mut length = 1;
        match byte {
            b'"' => length = string(rest),
            b'/' if rest.starts_with(b"//") => length = comment(rest),
            b'(' | b'[' | b'{' => {
                brackets += 1;
                // An index is an operator as `.` is.
                operators += usize::from(*byte == b'[' && is_operand(last));
            }
            b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
            b';' => operators = 0,
            b'&' | b'|' | b'+' | b'-' | b'*' | b'.' | b'!' => operators += 1,
            _ if is_word(*byte) => {
                length = until(rest, |byte| !is_word(byte));
                let word = &rest[..length];
                operators += usize::from([&b"if"[..], b"when", b"unless"].contains(&word));
                *policies += usize::from(last != b'.' && [&b"permit"[..], b"forbid"].contains(&word));
            }
            _ => {}
        }
        if *policies > POLICIES_MAX {
            let problem = Problem::error(
                &place(file, text, at),
                format!("there are more than {POLICIES_MAX} policies"),
            );
            return Some(problem.help("name several clients or routes in one, by a set or a group"));
        }
        let found = if brackets > BRACKETS_MAX {
            Some(format!("brackets are nested deeper than {BRACKETS_MAX}"))
        } else if operators > OPERATORS_MAX {
            Some(format!("the policy has more than {OPERATORS_MAX} operators"))
        } else {
            None
        };
        if let Some(message) = found {
            let help = "write several policies, or a set, as in `[\"a\", \"b\"].contains(...)`";
            return Some(Problem::error(&place(file, text, at), message).help(help));
        }
        if !byte.is_ascii_whitespace() && !rest.starts_with(b"//") {
            last = *byte;
        }
        at += length;
    }
    None
}

/// What is wrong with the text of a schema: its parser recurses through the brackets of types.
pub(super) fn scan_schema(file: &str, text: &str) -> Option<Problem> {
    let bytes = text.as_bytes();
    let (mut at, mut brackets) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let mut length = 1;
        match byte {
            b'"' => length = string(rest),
            b'/' if rest.starts_with(b"//") => length = comment(rest),
            b'(' | b'[' | b'{' | b'<' => brackets += 1,
            b')' | b']' | b'}' | b'>' => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        if brackets > BRACKETS_MAX {
            let message = format!("types are nested deeper than {BRACKETS_MAX}");
            return Some(Problem::error(&place(file, text, at), message));
        }
        at += length;
    }
    None
}

/// Bytes of the comment that begins here. To Cedar it ends at a carriage return, too.
fn comment(bytes: &[u8]) -> usize {
    until(bytes, |byte| matches!(byte, b'\n' | b'\r'))
}

/// Whether a `[` behind this byte is an index.
fn is_operand(last: u8) -> bool {
    is_word(last) || matches!(last, b')' | b']' | b'}' | b'"')
}

/// Bytes up to the one that is looked for, or to the end; at least one.
fn until(bytes: &[u8], is_end: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| is_end(*byte)).unwrap_or(bytes.len()).max(1)
}

/// Bytes of the string that begins here, with its quotes.
fn string(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'\\' => 2,
            b'"' => return at + 1,
            _ => 1,
        };
    }
    bytes.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The place of a byte.
pub(super) fn place(file: &str, text: &str, offset: usize) -> Place {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    // Each character is counted by the byte that begins it.
    let column = before[start..].iter().filter(|byte| **byte & 0xc0 != 0x80).count() as u32 + 1;
    Place::new(file, line, column)
}

/// Each is evaluated for every request that the cache does not know.
const POLICIES_MAX: usize = 1000;
/// Brackets in brackets; policies that people write have five.
const BRACKETS_MAX: usize = 32;
/// Operators in one policy: as many levels its tree may have while it is read.
const OPERATORS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Option<Problem> {
        scan("p.cedar", text, &mut 0)
    }

    #[test]
    fn what_nests_is_counted() {
        let nested = |count: usize| {
            format!(
                "permit(principal, action, resource) when {{ {}true{} }};",
                "(".repeat(count),
                ")".repeat(count)
            )
        };
        let chain = |count: usize| {
            format!("permit(principal, action, resource) when {{ true{} }};", " || true".repeat(count))
        };
        let ifs = |count: usize| {
            format!(
                "permit(principal, action, resource) when {{ {}true }};",
                "if true then true else ".repeat(count)
            )
        };
        let whens =
            |count: usize| format!("permit(principal, action, resource){};", " when { true }".repeat(count));
        let indexed = |count: usize| {
            format!("permit(principal, action, resource) when {{ {{}}{} }};", " // \n[\"a\"]".repeat(count))
        };
        for accepted in [
            indexed(OPERATORS_MAX - 1),
            nested(BRACKETS_MAX - 1),
            chain(OPERATORS_MAX / 2 - 1),
            ifs(OPERATORS_MAX - 1),
            whens(OPERATORS_MAX),
        ] {
            assert_eq!(scanned(&accepted), None);
            assert_eq!(scanned(&accepted.repeat(3)), None, "each policy is counted apart");
        }
        for (refused, expected) in [
            (nested(BRACKETS_MAX), "p.cedar:1:75: error: brackets are nested deeper than 32"),
            (chain(OPERATORS_MAX / 2), "the policy has more than 1000 operators"),
            (whens(OPERATORS_MAX + 1), "the policy has more than 1000 operators"),
            (indexed(OPERATORS_MAX + 1), "the policy has more than 1000 operators"),
            (nested(BRACKETS_MAX).replace("when", "// (\rwhen"), "error: brackets are nested deeper than 32"),
            (ifs(OPERATORS_MAX), "the policy has more than 1000 operators"),
        ] {
            let found = scanned(&refused).map(|problem| problem.to_string()).unwrap_or_default();
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn strings_and_comments_nest_nothing() {
        let brackets = "(".repeat(BRACKETS_MAX + 1);
        for text in [format!("// {brackets}\n"), format!("\"{brackets}\""), format!("\"\\\"{brackets}\"")] {
            assert_eq!(scanned(&text), None, "{text}");
        }
        assert!(scanned(&format!("// x\n{brackets}")).is_some());
        assert!(scanned(&format!("\"\\\\\"{brackets}")).is_some());
        assert_eq!(scanned("\"\\"), None);
    }

    #[test]
    fn policies_are_counted_in_all_files() {
        let text = "permit (principal, action, resource); // permit\n forbid (principal, action, resource) when { context.permit };";
        let mut policies = 0;
        assert_eq!(scan("p.cedar", text, &mut policies), None);
        assert_eq!(policies, 2);
        let mut policies = POLICIES_MAX - 1;
        let found =
            scan("p.cedar", text, &mut policies).map(|problem| problem.to_string()).unwrap_or_default();
        assert!(found.starts_with("p.cedar:2:2: error: there are more than 1000 policies"), "{found}");
    }

    #[test]
    fn types_of_schemas_nest_so_deep() {
        let nested = |count: usize| format!("type A = {}Long{};", "Set<".repeat(count), ">".repeat(count));
        assert_eq!(scan_schema("s.cedarschema", &nested(BRACKETS_MAX)), None);
        let records = |count: usize| format!("// x\rtype A = {}", "{ a: ".repeat(count));
        for refused in [nested(BRACKETS_MAX + 1), records(BRACKETS_MAX + 1)] {
            let found =
                scan_schema("s.cedarschema", &refused).map(|problem| problem.to_string()).unwrap_or_default();
            assert!(
                found.starts_with("s.cedarschema:1:") && found.contains("nested deeper than 32"),
                "{found}"
            );
        }
    }

    #[test]
    fn columns_are_characters() {
        let place = place("p.cedar", "a\né x", 5);
        assert_eq!((place.line, place.column), (2, 3));
    }
}
