//! The configuration file: whatever the text is, parsing ends, and with a configuration or with errors that can be
//! printed.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ringward_config::IncludedFiles;

fuzz_target!(|text: &str| {
    // What stands behind the mark is in a file that the first may include.
    let (text, included) = text.split_once("\n# included\n").unwrap_or((text, ""));
    // Always at one moment, so that a finding can be repeated.
    let found = ringward_config::parse_at(text, Path::new("ringward.toml"), &mut One(included), NOW_UNIX);
    let Err(found) = found else { return };
    assert!(found.has_errors(), "refused without an error");
    let lines = text.lines().count().max(included.lines().count()) + 1;
    for diagnostic in &found {
        assert!(!diagnostic.message.contains('\n'), "one line: {diagnostic}");
        assert!(diagnostic.line as usize <= lines, "within the file: {diagnostic}");
    }
    let shown = found.to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "fit for a terminal: {shown:?}");
});

/// Every directory has one file, and every file is this one.
struct One<'t>(&'t str);

impl IncludedFiles for One<'_> {
    fn names(&mut self, _directory: &Path) -> Result<Vec<String>, String> {
        Ok(vec!["included.toml".to_owned()])
    }

    fn text(&mut self, _file: &Path) -> Result<String, String> {
        Ok(self.0.to_owned())
    }
}

const NOW_UNIX: i64 = 1_800_000_000;
