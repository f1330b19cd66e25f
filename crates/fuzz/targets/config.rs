//! The configuration file: whatever the text is, parsing ends, and with a configuration or with errors that can be
//! printed.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Always at one moment, so that a finding can be repeated.
    let found = ringward_config::parse_at(text, Path::new("ringward.toml"), NOW_UNIX);
    let Err(found) = found else { return };
    assert!(found.has_errors(), "refused without an error");
    let lines = text.lines().count() + 1;
    for diagnostic in &found {
        assert!(!diagnostic.message.contains('\n'), "one line: {diagnostic}");
        assert!(diagnostic.line as usize <= lines, "within the file: {diagnostic}");
    }
    let shown = found.to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "fit for a terminal: {shown:?}");
});

const NOW_UNIX: i64 = 1_800_000_000;
