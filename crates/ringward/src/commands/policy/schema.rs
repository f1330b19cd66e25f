//! `ringward policy schema`.

use clap::Args;
use ringward_policy::{InputField, input_fields, input_json_schema};

use super::source::print_json;
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::say;

/// Print what a policy sees: every field of the input with its type and an example.
///
/// Every field is always there: what a request or a certificate lacks is empty. Only the entries of maps and the JSON of a body
/// come and go.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print a JSON Schema.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.json {
        return print_json(&input_json_schema());
    }
    let mut table = Table::new(&["FIELD", "TYPE", "EXAMPLE", "MEANING"]);
    for InputField { path, kind, about, example } in input_fields() {
        let example = match example.char_indices().nth(EXAMPLE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &example[..end]),
            None => example,
        };
        table.row([path, kind.to_owned(), example, about.to_owned()]);
    }
    say(table.to_string().trim_end());
    Ok(())
}

/// So that a row stays a line; `--json` has examples whole.
const EXAMPLE_CHARS_MAX: usize = 44;
