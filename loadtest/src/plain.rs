//! Text of others, made so that it is nothing but text: a target, or whoever wrote a report, says what it likes.

/// For a terminal.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|character| if is_shown(character) { character } else { '\u{fffd}' }).collect()
}

/// For HTML and SVG, also within an attribute's quotes.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(' '),
            _ if !is_shown(character) => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Neither one that controls something (in HTML they are errors, §13.2.3.5, and terminals obey them) nor one that turns the direction of
/// the text after it (CVE-2021-42574).
fn is_shown(character: char) -> bool {
    let turns =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !character.is_control() && !turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_only_text() {
        for (text, on_terminal, in_page) in [
            ("plain, µs", "plain, µs", "plain, µs"),
            (
                "<a b='c' d=\"e\">&amp;",
                "<a b='c' d=\"e\">&amp;",
                "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;amp;",
            ),
            ("\u{1b}[2J\0", "\u{fffd}[2J\u{fffd}", "\u{fffd}[2J\u{fffd}"),
            ("two\r\nlines", "two\u{fffd}\u{fffd}lines", "two\u{fffd} lines"),
            ("\u{202e}txt.exe\u{2069}", "\u{fffd}txt.exe\u{fffd}", "\u{fffd}txt.exe\u{fffd}"),
        ] {
            assert_eq!((&*shown(text), &*escaped(text)), (on_terminal, in_page));
        }
    }
}
