//! Pingora, which is a library: somebody's program made with it, named by `PINGORA_BIN`.
//!
//! It reads its settings from the environment: `LISTEN` and `UPSTREAM` (ADDRESS:PORT), `PKI` (a directory with `server.pem`,
//! `server.key` and `root.pem`), and `POLICY`, which is 1 if `client-a` (common name) is to get at `/api/`, `/big/` and
//! `/upload` alone, `client-b` at `/public/`, and everything else is to get 403. With one thread it is measured like the others.

use std::{fs, io};

use super::peer::{About, Prepared, Setting, Source};

pub(super) const ABOUT: About = About {
    name: "pingora",
    program: "pingora-peer",
    variable: "PINGORA_BIN",
    version: &[],
    source: Source::Own("a program made with it, see loadtest/README.md"),
    prepare,
};

fn prepare(setting: &Setting<'_>) -> io::Result<Prepared> {
    let files = &setting.files;
    for (from, name) in [
        (&files.server_chain, "server.pem"),
        (&files.server_key, "server.key"),
        (&files.client_ca, "root.pem"),
    ] {
        fs::copy(from, setting.dir.join(name))?;
    }
    let mut prepared = Prepared::new([]);
    prepared.variables = vec![
        ("LISTEN", setting.listen.to_string().into()),
        ("UPSTREAM", setting.upstream.to_string().into()),
        ("PKI", setting.dir.into()),
        ("POLICY", if setting.policy { "1" } else { "0" }.into()),
        ("THREADS", setting.workers.to_string().into()),
        ("RUST_LOG", "off".into()),
    ];
    Ok(prepared)
}
