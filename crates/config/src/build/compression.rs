//! `compression` of routes.

use serde_spanned::Spanned;

use super::context::Context;
use crate::bounds::{self, NumberBounds};
use crate::model::{Action, Compression, HeaderEdits};
use crate::raw::{self, CompressionAlgorithm, Count, Field};

/// What a route says; `edits` are those of its responses.
pub(super) fn compression(
    cx: &mut Context<'_>,
    route: &raw::Route,
    action: Option<&Action>,
    edits: &HeaderEdits,
) -> Option<Compression> {
    let raw = cx.given(&route.compression)?;
    let (span, raw) = (raw.span(), raw.get_ref());
    if action.is_some_and(|action| action.clusters().next().is_none()) {
        cx.error(
            &span,
            "`compression` in a route that answers by itself: these answers are never compressed",
        )
        .help("take it out");
    }
    if route.r#match.given().is_some_and(|matched| !matched.get_ref().grpc.is_absent()) {
        cx.error(&span, "`compression` in a route of gRPC, which compresses its messages itself")
            .help("take it out");
    }
    for name in edits.names().filter(|name| OURS.contains(name)) {
        let span = route.response_headers.span().unwrap_or(span.clone());
        cx.error(&span, format!("`response_headers` has {name:?}, which `compression` writes"))
            .help("take it out");
    }
    let mut replaced =
        edits.set.iter().map(|(name, _)| &**name).chain(edits.remove.iter().map(|name| &**name));
    if replaced.any(|name| name == "vary") {
        let span = route.response_headers.span().unwrap_or(span.clone());
        cx.error(&span, "`response_headers` sets or removes \"vary\", which says that `compression` depends on the client")
            .help("use `append`, or take it out");
    }
    let algorithms = match raw.algorithms.is_absent() {
        true => vec![CompressionAlgorithm::Zstd, CompressionAlgorithm::Br, CompressionAlgorithm::Gzip],
        false => cx.choices("algorithms", &raw.algorithms),
    };
    for (algorithm, key, field, _) in levels(raw) {
        if let (Some(span), false) = (field.span(), algorithms.contains(&algorithm)) {
            let name = algorithm.as_str();
            cx.error(&span, format!("`{key}` has no effect: `algorithms` does not have {name:?}"))
                .help("add the algorithm, or take the key out");
        }
    }
    let levels = levels(raw).map(|(algorithm, key, field, bounds)| {
        let level = cx.number(key, field, bounds);
        (algorithm, u8::try_from(level).unwrap_or(u8::MAX))
    });
    let level = |algorithm| levels.iter().copied().find(|(other, _)| *other == algorithm);
    Some(Compression {
        algorithms: algorithms.into_iter().filter_map(level).collect(),
        bytes_min: cx.size("bytes_min", &raw.bytes_min, &bounds::COMPRESSION_BYTES_MIN) as u64,
        content_types: content_types(cx, raw),
    })
}

fn levels(
    raw: &raw::Compression,
) -> [(CompressionAlgorithm, &'static str, &Field<Count>, &'static NumberBounds); 3] {
    [
        (CompressionAlgorithm::Zstd, "zstd_level", &raw.zstd_level, &bounds::ZSTD_LEVEL),
        (CompressionAlgorithm::Br, "br_level", &raw.br_level, &bounds::BR_LEVEL),
        (CompressionAlgorithm::Gzip, "gzip_level", &raw.gzip_level, &bounds::GZIP_LEVEL),
    ]
}

fn content_types(cx: &mut Context<'_>, raw: &raw::Compression) -> Vec<Box<str>> {
    let Some(list) = cx.given(&raw.content_types) else {
        return CONTENT_TYPES.iter().map(|name| (*name).into()).collect();
    };
    let mut types: Vec<Box<str>> = Vec::new();
    for item in cx.list("content_types", list, bounds::CONTENT_TYPES) {
        let name = item.get_ref().to_ascii_lowercase();
        if types.iter().any(|known| **known == *name) {
            cx.error(&item.span(), format!("`content_types` has {name:?} twice"));
        } else if is_allowed(cx, &item, &name) {
            types.push(name.into());
        }
    }
    types
}

fn is_allowed(cx: &mut Context<'_>, item: &Spanned<&str>, name: &str) -> bool {
    let is_token = |part: &str| {
        let symbol = |byte| b"!#$%&'+-.^_`|~".contains(&byte);
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || symbol(byte))
    };
    let is_type =
        name.split_once('/').is_some_and(|(main, sub)| is_token(main) && (is_token(sub) || sub == "*"));
    if !is_type {
        cx.error(&item.span(), format!("`content_types`: {name:?} is not a media type"))
            .help("write them without parameters: \"application/json\", or \"text/*\" for all of them");
        return false;
    }
    if name.starts_with("application/grpc") || name == "application/*" {
        cx.error(
            &item.span(),
            format!("`content_types`: {name:?} takes gRPC, which compresses its messages itself"),
        )
        .help("name the types that are to be compressed: \"application/json\"");
        return false;
    }
    true
}

/// Text, and what is text in truth. What is compressed in itself (images, films, archives, fonts of the web) only gets longer.
const CONTENT_TYPES: [&str; 10] = [
    "text/*",
    "application/json",
    "application/javascript",
    "application/manifest+json",
    "application/xml",
    "application/xhtml+xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/wasm",
    "image/svg+xml",
];

/// What follows from the coding of a response.
const OURS: [&str; 3] = ["accept-ranges", "content-encoding", "etag"];
