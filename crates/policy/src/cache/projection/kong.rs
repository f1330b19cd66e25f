//! What the paths of the input of Kong's OPA plugin depend on.

use super::{Accessor, Projection, Unkeyable};
use crate::input::kong::RINGWARD;

/// Adds what a path depends on.
pub(super) fn add(projection: &mut Projection, path: &[&str]) -> Result<(), Unkeyable> {
    match path {
        ["client_ip", ..] => projection.add_subject(&["connection", "remote_addr"]),
        ["consumer", ..] => {
            projection.add_subject(&["client", "verified"]);
            projection.add_subject(&["client", "identity"]);
        }
        ["request", "http", rest @ ..] => add_http(projection, path, rest)?,
        ["route", ..] => projection.fields.push(Accessor::RouteId),
        ["service", ..] => projection.fields.push(Accessor::RouteUpstream),
        _ => return projection.add_ringward(path, RINGWARD),
    }
    Ok(())
}

fn add_http(projection: &mut Projection, path: &[&str], rest: &[&str]) -> Result<(), Unkeyable> {
    match rest {
        ["body" | "body_size" | "parsed_body", ..] => return Err(Unkeyable::body(path)),
        ["headers"] => return Err(Unkeyable::headers("input.request.http.headers[\"x-team\"]")),
        ["headers", name, ..] => projection.fields.push(Accessor::Header((*name).into())),
        ["host", ..] => projection.fields.push(Accessor::Host),
        ["method", ..] => projection.fields.push(Accessor::Method),
        ["path", ..] => projection.fields.push(Accessor::Path),
        ["port", ..] => projection.add_subject(&["connection", "local_port"]),
        // All of it, since the values of one name do not tell `a` from `a=`.
        ["querystring", ..] => projection.fields.push(Accessor::Query),
        ["scheme", ..] => projection.fields.push(Accessor::Scheme),
        ["tls", "cipher", ..] => projection.add_subject(&["connection", "cipher"]),
        ["tls", "client_verify", ..] => projection.add_subject(&["client", "verified"]),
        ["tls", "version", ..] => projection.add_subject(&["connection", "tls_version"]),
        ["tls"] => {
            projection.add_subject(&["client", "verified"]);
            projection.add_subject(&["connection", "cipher"]);
            projection.add_subject(&["connection", "tls_version"]);
        }
        ["uri_captures", ..] => projection.fields.push(Accessor::RouteParams),
        _ => return Err(Unkeyable::whole(path)),
    }
    Ok(())
}
