//! `ringward help`: what a command does, what a key of the configuration means.

use clap::{Args, Command};
use ringward_config::Entry;

use crate::failure::Failure;
use crate::terminal::{print_json, say};

/// Show what a command does, or what a key of the configuration means.
#[derive(Debug, Args)]
pub(crate) struct Help {
    /// A command; or `config`, alone or with a table or key of the configuration file, such as `config cluster.protocol`.
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
    /// With `config`: print the JSON Schema of the configuration file, for editors.
    #[arg(long)]
    json_schema: bool,
}

/// Shows what is asked for; `ringward` is the whole command line.
///
/// # Errors
/// If there is no such command or key.
pub(crate) fn run(arguments: &Help, mut ringward: Command) -> Result<(), Failure> {
    let topic: Vec<&str> = arguments.topic.iter().map(String::as_str).collect();
    match (topic.as_slice(), arguments.json_schema) {
        (["config"], true) => print_json(&ringward_config::json_schema()),
        (_, true) => Err(Failure::Usage("--json-schema goes with `ringward help config` alone".to_owned())),
        (["config"], false) => {
            say(overview(&ringward_config::reference()));
            Ok(())
        }
        (["config", asked], false) => {
            say(about(&ringward_config::reference(), asked)?);
            Ok(())
        }
        (names, false) => {
            // Their usage lines name the whole command only then.
            ringward.build();
            let mut command = &mut ringward;
            for name in names {
                command = command.find_subcommand_mut(name).ok_or_else(|| {
                    Failure::Usage(format!(
                        "there is no command `{}`: `ringward help` lists them",
                        names.join(" ")
                    ))
                })?;
            }
            say(command.render_long_help().to_string().trim_end());
            Ok(())
        }
    }
}

/// All tables, with the beginning of what they are.
fn overview(entries: &[Entry]) -> String {
    let mut text = "Tables of the configuration file. `ringward help config TABLE` says more, such as `ringward help config \
                    cluster`, and so does `ringward help config TABLE.KEY`.\n"
        .to_owned();
    for entry in entries {
        if let Some(heading) = &entry.heading {
            // The key in its table above says what it is for, in fewer words.
            let key = entries.iter().find(|key| key.path == entry.path).unwrap_or(entry);
            text += &format!("\n{heading}\n    {}\n", meaning(&key.doc));
        }
    }
    text.trim_end().to_owned()
}

/// A table with its keys, or a key.
fn about(entries: &[Entry], asked: &str) -> Result<String, Failure> {
    // As it stands in the file, too: `[cluster.NAME]`.
    let asked = asked.trim_matches(['[', ']']).replace(".NAME", "");
    let mut text = String::new();
    for entry in entries.iter().filter(|entry| entry.path == asked) {
        match &entry.heading {
            Some(heading) => {
                text += &format!("{heading}\n\n{}\n", entry.doc);
                for key in entries.iter().filter(|key| key.heading.is_none()) {
                    if let Some((table, name)) = key.path.rsplit_once('.')
                        && table == asked
                    {
                        text += &format!("\n{name}\n{}\n", indented(&key.doc));
                    }
                }
            }
            None => text += &format!("{asked}\n\n{}\n\n", entry.doc),
        }
    }
    if text.is_empty() {
        return Err(Failure::Usage(format!(
            "there is no table or key `{asked}`: `ringward help config` lists all tables"
        )));
    }
    Ok(text.trim_end().to_owned())
}

/// The first sentence of a table's doc, without its name in front.
fn meaning(doc: &str) -> String {
    let paragraph: Vec<&str> = doc.lines().take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    let meaning = paragraph.split_once("`: ").map_or(&*paragraph, |(_, meaning)| meaning);
    let sentence = meaning.split_once(". ").map_or(meaning, |(sentence, _)| sentence);
    sentence.trim_end_matches('.').to_owned()
}

fn indented(doc: &str) -> String {
    let lines = doc.lines().map(|line| if line.is_empty() { String::new() } else { format!("    {line}") });
    lines.collect::<Vec<_>>().join("\n")
}
