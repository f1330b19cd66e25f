//! Reads the corpora: one case a line, `verdict | rule | bytes`, with `\r \n \t \0 \\ \xHH` in the bytes.

/// One line of a corpus.
pub(crate) struct Case {
    /// For messages: line and rule.
    pub(crate) name: String,
    pub(crate) verdict: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// The cases of a corpus file. Empty lines and lines that start with `#` say nothing.
pub(crate) fn cases(corpus: &'static str) -> Vec<Case> {
    let lines = corpus.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let cases: Vec<Case> = lines.map(|(index, line)| case(index + 1, line)).collect();
    assert!(!cases.is_empty());
    cases
}

fn case(number: usize, line: &'static str) -> Case {
    let mut parts = line.splitn(3, " | ");
    let mut part = || parts.next().unwrap_or_else(|| panic!("line {number} is not `verdict | rule | bytes`"));
    let (verdict, rule, bytes) = (part(), part(), part());
    Case { name: format!("line {number} ({rule}): {bytes}"), verdict, bytes: unescape(bytes.as_bytes()) }
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(if byte != b'\\' { byte } else { escaped(&mut rest) });
    }
    bytes
}

fn escaped(rest: &mut impl Iterator<Item = u8>) -> u8 {
    match rest.next() {
        Some(b'r') => b'\r',
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'0') => 0,
        Some(b'\\') => b'\\',
        Some(b'x') => {
            let digits =
                [rest.next(), rest.next()].map(|digit| char::from(digit.expect("two digits after \\x")));
            u8::from_str_radix(&digits.iter().collect::<String>(), 16).expect("hexadecimal digits after \\x")
        }
        other => panic!("unknown escape {other:?}"),
    }
}
