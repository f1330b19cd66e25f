//! Other files that are written like the configuration: TOML with known keys, read as strictly, with places for messages.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;

use crate::decode::{self, Manner};
use crate::diagnostic::{Diagnostics, Location, Source};

/// A TOML document. What it holds is a type made of [`Field`](crate::raw::Field)s, as those in [`crate::raw`].
#[derive(Debug)]
pub struct Document(Source);

impl Document {
    /// The document with this text. `file` is what it is called in messages.
    pub fn new(file: &Path, text: &str) -> Self {
        Self(Source::new(file, text))
    }

    /// Reads it into `T`. The value is there unless the text is not TOML at all. With a problem, and each is an error, it may be
    /// used only to look for further ones.
    pub fn decode<'de, T: Deserialize<'de>>(&'de self) -> (Option<T>, Diagnostics) {
        let (value, problems) = decode::decode(self.0.text(), Manner::default());
        let mut found = Diagnostics::new();
        self.0.note(problems, &mut found);
        (value, found)
    }

    /// The place of a byte range, such as the span of a field.
    pub fn locate(&self, span: &Range<usize>) -> Location {
        self.0.locate(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Field;

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename = "the table", default, deny_unknown_fields)]
    struct Table {
        name: Field<String>,
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_found_with_their_places() {
        let document = Document::new(Path::new("t.toml"), "name = 1\nnmae = \"a\"\n");
        let (table, found) = document.decode::<Table>();
        assert!(table.expect("it is TOML").name.value().is_none());
        let shown: Vec<_> = found.iter().map(|d| (d.line, d.column, d.message.as_str())).collect();
        let wrong_type = "`name`: expected a string, found integer `1`";
        assert_eq!(shown, [(2, 1, "unknown key `nmae` in the table"), (1, 8, wrong_type)]);
    }
}
