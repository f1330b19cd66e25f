//! Bad files and what is said about them, whole: `tests/bad/*.toml` with the expected text beside each.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ringward-config --test diagnostics` writes the texts anew; read the difference then.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn everything_wrong_is_said_at_once_and_in_place() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 14, "the files are there");
    let mut differing = Vec::new();
    for path in files {
        let source = fs::read_to_string(&path).unwrap();
        let name = Path::new(path.file_name().unwrap());
        let found = ringward_config::parse(&source, name).expect_err("every file here has errors");
        assert!(found.has_errors());
        let rendered = format!("{found}\n");
        let golden = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &rendered).unwrap();
        } else if fs::read_to_string(&golden).ok().as_deref() != Some(rendered.as_str()) {
            differing.push(format!("{}\n{rendered}", golden.display()));
        }
    }
    assert!(differing.is_empty(), "these differ from what is said now:\n{}", differing.join("\n"));
}
