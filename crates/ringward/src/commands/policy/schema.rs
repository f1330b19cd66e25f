//! `ringward policy schema`.

use clap::Args;
use ringward_policy::{InputField, InputShape, input_fields, input_json_schema};

use super::source::{parse_shape, print_json};
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::say;

/// Print what a policy sees: every field of the input with its type and an example.
///
/// In the native input every field is always there: what a request or a certificate lacks is empty. Only the entries of maps and
/// the JSON of a body come and go. In all shapes, a type with `?` is that of a field that may be missing.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The shape of the input: native, envoy-v3 or kong.
    #[arg(long = "shape", visible_alias = "input", value_name = "SHAPE", default_value_t, value_parser = parse_shape)]
    shape: InputShape,
    /// Print a JSON Schema.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.json {
        return print_json(&input_json_schema(arguments.shape));
    }
    let mut table = Table::new(&["FIELD", "TYPE", "EXAMPLE", "MEANING"]);
    for InputField { path, kind, optional, about, example } in input_fields(arguments.shape) {
        let example = match example.char_indices().nth(EXAMPLE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &example[..end]),
            None => example,
        };
        let (kind, example) = match (optional, example.as_str()) {
            (false, _) => (kind.to_owned(), example),
            (true, "null") => (format!("{kind}?"), String::new()),
            (true, _) => (format!("{kind}?"), example),
        };
        table.row([path, kind, example, about.to_owned()]);
    }
    say(table.to_string().trim_end());
    Ok(())
}

/// So that a row stays a line; `--json` has examples whole.
const EXAMPLE_CHARS_MAX: usize = 44;
