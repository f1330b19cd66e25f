//! `[[include]]`: one configuration from several files.
//!
//! [`assemble`] goes four steps: what do the entries allow (`entries`), which files are meant and what stands in them (`files`), what
//! of it may stand there, and is nothing defined twice (`merge`), and which listeners and hosts get the hosts and routes that stand
//! apart from them (`attach`). From then on it is one configuration, in which each place still knows its file.

mod attach;
mod entries;
mod files;
mod merge;

use crate::bounds;
use crate::decode::{self, Manner};
use crate::diagnostic::{Diagnostics, Source};
use crate::model::Include;
use crate::raw;

use self::entries::Entry;
pub use self::entries::Pattern;
pub use self::files::{Disk, IncludedFiles};
use super::context::{Context, ProcessKeys};

/// The file with all that it includes. `found` gets what is wrong; what comes out may then be used only to look for more.
pub(crate) fn assemble(
    mut file: raw::File,
    source: &mut Source,
    found: &mut Diagnostics,
    included: &mut dyn IncludedFiles,
    now_unix: i64,
) -> raw::File {
    let mut cx = Context::new(source, std::mem::take(found), now_unix, PROCESS);
    let entries = entries::entries(&mut cx, &file.include);
    let files = files::find(&mut cx, &entries, included);
    *found = cx.finish();
    let parts: Vec<(raw::File, &Entry)> = files
        .into_iter()
        .filter_map(|file| {
            let begin = source.add(&file.path, &file.text);
            let manner = Manner { begin, refuses_danger: !file.entry.may_weaken };
            let (part, problems) = decode::decode(&file.text, manner);
            source.note(problems, found);
            part.map(|part| (part, file.entry))
        })
        .collect();
    let mut cx = Context::new(source, std::mem::take(found), now_unix, PROCESS);
    for (part, entry) in parts {
        merge::merge(&mut cx, &mut file, part, entry);
    }
    attach::attach(&mut cx, &mut file);
    *found = cx.finish();
    file
}

/// What the file includes.
///
/// # Errors
/// What is wrong with that.
pub(crate) fn allowed(file: &raw::File, source: &Source) -> Result<Vec<Include>, Diagnostics> {
    let mut cx = Context::new(source, Diagnostics::new(), 0, PROCESS);
    let entries = entries::entries(&mut cx, &file.include);
    let found = cx.finish();
    if found.has_errors() { Err(found) } else { Ok(entries.into_iter().map(Include::from).collect()) }
}

/// Nothing here depends on them.
const PROCESS: ProcessKeys = ProcessKeys { state_dir: true, fetch_ca: true };

/// Of all files of one configuration.
const BYTES_MAX: u64 = bounds::FILE_BYTES_MAX;
