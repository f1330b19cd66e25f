//! Paths of the Unix sockets of upstreams.

use std::ops::Range;

use super::context::Context;
use crate::bounds;

/// A path that a socket can have, wherever the process was started.
pub(super) fn socket_path<'t>(
    cx: &mut Context<'_>,
    key: &str,
    path: &'t str,
    span: &Range<usize>,
) -> Option<&'t str> {
    let (problem, help) = if path.starts_with('@') {
        let problem = "abstract Unix sockets are not supported: they have no permissions, so that anybody on the machine could listen in place of the upstream";
        (problem.to_owned(), "have it listen at a path: \"unix:/run/app/app.sock\"")
    } else if !path.starts_with('/') {
        let problem = format!("{path:?} is not an absolute path of a Unix socket");
        (problem, "write it from the root on: \"unix:/run/app/app.sock\"")
    } else if path.len() > bounds::SOCKET_PATH_BYTES_MAX {
        let problem =
            format!("the path of the Unix socket has more than {} bytes", bounds::SOCKET_PATH_BYTES_MAX);
        (problem, "the kernel takes no longer ones: choose a directory such as /run/app")
    } else if path.contains(char::is_control) {
        let problem = "the path of the Unix socket has control characters".to_owned();
        (problem, "it appears in logs and metrics: choose another one")
    } else if path.ends_with('/') {
        let problem = format!("{path:?} names a directory, and no Unix socket");
        (problem, "write the socket in it: \"unix:/run/app/app.sock\"")
    } else {
        return Some(path);
    };
    cx.error(span, format!("`{key}`: {problem}")).help(help);
    None
}
