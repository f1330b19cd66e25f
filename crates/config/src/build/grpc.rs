//! Routes by service and method of gRPC: which path such a route means.

use std::collections::BTreeMap;

use serde_spanned::Spanned;

use super::context::Context;
use crate::model::{Cluster, Protocol};
use crate::path::PathPattern;
use crate::raw;
use crate::routes::{Method, Methods};

/// The path and method of `grpc = "package.Service/Method"`, if that is one; what stands beside it that cannot is reported.
pub(super) fn matched(
    cx: &mut Context<'_>,
    matched: &raw::Match,
    text: &Spanned<String>,
    http2: bool,
) -> Option<(PathPattern, Methods)> {
    let beside =
        [("path", matched.path.span()), ("regex", matched.regex.span()), ("methods", matched.methods.span())];
    for (key, span) in beside {
        if let Some(span) = span {
            cx.error(&span, format!("`{key}` beside `grpc`, which says it already")).help("leave it away");
        }
    }
    if !http2 {
        cx.error(&text.span(), "the route can never be reached: the listener does not speak HTTP/2")
            .help("remove http2 = false from the [[listener]]: gRPC is HTTP/2");
    }
    let Some(pattern) = pattern(text.get_ref()) else {
        cx.error(&text.span(), format!("`grpc`: {:?} is not a service and a method of gRPC", text.get_ref()))
            .help(
                "write \"package.Service/Method\", or \"package.Service/*\" for all methods of the service",
            );
        return None;
    };
    Some((pattern, Methods::Only(vec![Method::parse("POST").ok()?])))
}

/// Services of gRPC speak HTTP/2; what else a cluster may have behind it is not known here.
pub(super) fn warn_over_http1(
    cx: &mut Context<'_>,
    text: &Spanned<String>,
    name: &str,
    clusters: &BTreeMap<String, Cluster>,
) {
    if clusters.get(name).is_some_and(|cluster| cluster.protocol == Protocol::Http1) {
        cx.warning(
            &text.span(),
            format!("the cluster {name:?} is spoken to in HTTP/1.1, and gRPC is HTTP/2"),
        )
        .help(format!("add protocol = \"http2\" to [cluster.{name}]"));
    }
}

/// `PROTOCOL-HTTP2.md`, "Requests": a path is `/` service `/` method. Both are identifiers of protobuf; what calls its
/// services otherwise is reached by `path`.
fn pattern(text: &str) -> Option<PathPattern> {
    let (service, method) = text.split_once('/')?;
    let is_service = service.split('.').all(is_identifier);
    let path = match method {
        "*" if is_service => format!("/{service}/{{method}}"),
        method if is_service && is_identifier(method) => format!("/{service}/{method}"),
        _ => return None,
    };
    PathPattern::parse(&path).ok()
}

fn is_identifier(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_methods_are_paths() {
        for (text, path) in [
            ("Greeter/Hello", "/Greeter/Hello"),
            ("pkg.v1.Greeter/Hello_2", "/pkg.v1.Greeter/Hello_2"),
            ("pkg.Greeter/*", "/pkg.Greeter/{method}"),
        ] {
            assert_eq!(pattern(text).as_ref().map(PathPattern::as_str), Some(path), "{text}");
        }
        for text in [
            "",
            "/",
            "Greeter",
            "Greeter/",
            "/Hello",
            "/pkg.Greeter/Hello",
            "a/b/c",
            "pkg..Greeter/Hello",
            ".Greeter/Hello",
            "pkg.Greeter/{name}",
            "*/*",
            "*/Hello",
            "pkg.*/Hello",
            "a b/c",
            "1a/b",
            "a/1b",
            "pkg.Greeter/He*",
            "pkg.Greeter/Hell\u{f6}",
        ] {
            assert_eq!(pattern(text), None, "{text}");
        }
    }
}
