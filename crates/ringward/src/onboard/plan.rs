//! What is to be written, and where.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ringward_config::{Include, Section};

use super::Onboard;
use crate::commands::read;
use crate::failure::Failure;
use crate::load::Staged;

/// The files of a partner.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    /// In the order in which they are written: what others name comes first.
    pub(super) files: [(PathBuf, Vec<u8>); 2],
    /// They may be there already.
    pub(super) replace: bool,
}

impl Plan {
    /// # Errors
    /// If the name is none, no `[[include]]` takes the partner, a file cannot be read, or one is there already.
    pub(super) fn of(arguments: &Onboard) -> Result<Plan, Failure> {
        let name = &arguments.name;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if !name.bytes().all(is_plain) || !name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) {
            return Err(Failure::Usage(format!(
                "`{name}` is not a name: write letters, digits, `_`, `-` and `.`, beginning with a letter or digit"
            )));
        }
        let directory = directory(arguments)?;
        let authority = directory.join(format!("{name}.ca.pem"));
        let file = directory.join(format!("{name}.toml"));
        for path in [&authority, &file] {
            if !arguments.replace && path.symlink_metadata().is_ok() {
                return Err(Failure::Usage(format!(
                    "`{}` is there already: `--replace` writes over it",
                    path.display()
                )));
            }
        }
        let text = text(arguments)?;
        let files = [(authority, read(&arguments.ca)?), (file, text.into_bytes())];
        Ok(Plan { name: name.clone(), files, replace: arguments.replace })
    }

    /// The files as if they were there.
    pub(super) fn staged(&self) -> Staged {
        self.files.iter().cloned().collect::<BTreeMap<_, _>>()
    }
}

/// Where an `[[include]]` takes the file. The rest of the configuration is not looked at: it may need this partner to be good.
fn directory(arguments: &Onboard) -> Result<PathBuf, Failure> {
    let Onboard { name, config, .. } = arguments;
    let text = String::from_utf8(read(config)?)
        .map_err(|_| Failure::Usage(format!("`{}` is not UTF-8 text", config.display())))?;
    let includes = ringward_config::includes(&text, config).map_err(Failure::Configuration)?;
    let file = format!("{name}.toml");
    let takes = |include: &&Include| {
        let defines = |section| include.may_define.contains(&section);
        let may_be_called =
            include.names.as_ref().is_none_or(|names| names.iter().any(|own| own.matches(name)));
        include.file.matches(&file) && defines(Section::Trust) && defines(Section::Tenant) && may_be_called
    };
    let fitting: Vec<&Path> =
        includes.iter().filter(takes).map(|include| include.directory.as_path()).collect();
    let meant: Vec<&Path> = match &arguments.into {
        Some(into) => fitting.iter().copied().filter(|directory| is_same(directory, into)).collect(),
        None => fitting.clone(),
    };
    match (meant[..].as_ref(), fitting.is_empty()) {
        ([directory], _) => Ok((*directory).to_owned()),
        ([], true) => Err(Failure::Usage(format!(
            "no [[include]] of `{}` takes a file `{file}` that defines a trust bundle and a tenant called {name:?}; add\n\n  \
             [[include]]\n  path = \"partners.d/*.toml\"\n  may_define = [\"trust\", \"tenant\"]\n",
            config.display()
        ))),
        ([], false) | (_, _) => Err(Failure::Usage(format!(
            "which directory? `--into` takes one of {}",
            fitting.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// The configuration of the partner.
fn text(arguments: &Onboard) -> Result<String, Failure> {
    let Onboard { name, matches, identity, more, .. } = arguments;
    // The name stands in quotes where it is a key, since it may have dots.
    let (own, authority) = (quoted(name), quoted(&format!("{name}.ca.pem")));
    let mut text = format!("[trust.{own}]\nca = [{authority}]\n\n[tenant.{own}]\ntrust = [{own}]\n");
    if !matches.is_empty() {
        let conditions: Vec<String> = matches
            .iter()
            .map(|(key, wanted)| format!("{{ {} = {} }}", quoted(key), quoted(wanted)))
            .collect();
        let _ = writeln!(text, "match = [{}]", conditions.join(", "));
    }
    if let Some(identity) = identity {
        let _ = writeln!(text, "identity = {}", quoted(identity));
    }
    if let Some(more) = more {
        let added = String::from_utf8(read(more)?)
            .map_err(|_| Failure::Usage(format!("`{}` is not UTF-8 text", more.display())))?;
        let _ = write!(text, "\n{added}");
    }
    Ok(text)
}

/// A string or key of TOML. What JSON escapes, TOML reads alike; of what is left, it refuses DEL.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
