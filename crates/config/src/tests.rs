//! Tests of the crate as one: that the reference of the file format is complete.

/// A manual is made from the comments on the raw types, so every key says what it is by default or that it is required.
#[test]
fn every_key_says_its_default() {
    let raw = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raw");
    let files = std::fs::read_dir(raw).unwrap().map(|entry| entry.unwrap().path());
    let sources = files.map(|path| std::fs::read_to_string(path).unwrap());
    let mut keys = 0;
    for source in sources {
        let mut comment = String::new();
        for line in source.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("///") {
                comment.push_str(text);
                comment.push('\n');
            } else if line.starts_with("pub ") && line.contains(": Field<") {
                keys += 1;
                let said = comment.contains("\n Default") || comment.contains("\n Required");
                assert!(said, "{line} does not say its default");
                comment.clear();
            } else if !line.starts_with("#[schemars") {
                comment.clear();
            }
        }
    }
    assert!(keys > 200, "{keys} keys were seen");
}
