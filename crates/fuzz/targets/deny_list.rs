//! The deny list's file: any bytes yield a list or an error with its line, and a list that is written is read as the same
//! list. No line is skipped: each is an entry, or the error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_tls::{DenyList, DenyListError};

fuzz_target!(|file: &[u8]| {
    let lines = file.iter().filter(|byte| **byte == b'\n').count();
    let list = match DenyList::parse(file) {
        Ok(list) => list,
        Err(error) => {
            let message = error.to_string();
            assert!(!message.chars().any(char::is_control), "one line: {message:?}");
            if let DenyListError::Line { line, .. } = error {
                assert!((2..=lines + 1).contains(&line), "within the file: line {line} of {lines}");
            }
            return;
        }
    };
    assert_eq!(list.len(), lines - 1, "an entry for each line but the first");
    for entry in list.entries() {
        assert_eq!(list.get(&entry.target), Some(entry));
        let texts = [&entry.reason, &entry.by, &entry.target.to_string()];
        assert!(texts.iter().all(|text| !text.chars().any(char::is_control)), "fit for a log: {texts:?}");
    }
    let written = list.serialize();
    assert_eq!(DenyList::parse(written.as_bytes()).as_ref(), Ok(&list));
    // Taking all out again leaves nothing behind.
    let mut rest = list.clone();
    for entry in list.entries() {
        assert_eq!(rest.remove(&entry.target).as_ref(), Some(entry));
    }
    assert_eq!(rest, DenyList::new());
});
