//! What the paths of the input of OPA's Envoy plugin depend on.

use super::{Accessor, Projection, Unkeyable};
use crate::input::envoy::{PARTIAL_BODY, RINGWARD, is_left_out};

/// Adds what a path depends on.
pub(super) fn add(projection: &mut Projection, path: &[&str]) -> Result<(), Unkeyable> {
    match path {
        ["attributes", "contextExtensions"] => projection.fields.push(Accessor::RouteLabels),
        ["attributes", "contextExtensions", name, ..] => {
            projection.fields.push(Accessor::RouteLabel((*name).into()));
        }
        ["attributes", "destination", ..] => projection.add_subject(&["connection", "local_port"]),
        ["attributes", "request", "http", rest @ ..] => add_http(projection, path, rest)?,
        ["attributes", "request", "time", ..] => projection.fields.push(Accessor::Second),
        ["attributes", "source", "principal", ..] => add_principal(projection),
        ["attributes", "source", "address", "socketAddress", "address", ..] => {
            projection.add_subject(&["connection", "remote_addr"]);
        }
        ["attributes", "source", "address", "socketAddress", "portValue", ..] => {
            projection.add_subject(&["connection", "remote_port"]);
        }
        ["attributes", "source", "address", ..] => add_address(projection),
        ["attributes", "source"] => {
            add_principal(projection);
            add_address(projection);
        }
        ["attributes", "tlsSession", ..] => projection.add_subject(&["connection", "sni"]),
        ["parsed_body" | "truncated_body", ..] => return Err(Unkeyable::body(path)),
        ["parsed_path", ..] => projection.fields.push(Accessor::Path),
        ["parsed_query"] => projection.fields.push(Accessor::Query),
        // A pair whose name is written in a way that Go refuses is left out, though it decodes to the same name.
        ["parsed_query", name, ..] if name.contains(['%', ';']) => projection.fields.push(Accessor::Query),
        ["parsed_query", name, ..] => projection.fields.push(Accessor::QueryValues((*name).into())),
        // The same in every request.
        ["version", ..] => {}
        _ => return projection.add_ringward(path, RINGWARD),
    }
    Ok(())
}

fn add_http(projection: &mut Projection, path: &[&str], rest: &[&str]) -> Result<(), Unkeyable> {
    match rest {
        ["body" | "size", ..] => return Err(Unkeyable::body(path)),
        ["headers"] => return Err(Unkeyable::headers("input.attributes.request.http.headers[\"x-team\"]")),
        ["headers", PARTIAL_BODY, ..] => return Err(Unkeyable::body(path)),
        ["headers", ":authority", ..] | ["host", ..] => projection.fields.push(Accessor::Host),
        ["headers", ":method", ..] | ["method", ..] => projection.fields.push(Accessor::Method),
        ["headers", ":path", ..] | ["path", ..] => {
            projection.fields.extend([Accessor::Path, Accessor::Query]);
        }
        ["headers", ":scheme", ..] | ["scheme", ..] => projection.fields.push(Accessor::Scheme),
        // Missing in every request.
        ["headers", name, ..] if is_left_out(name) => {}
        ["headers", name, ..] => projection.fields.push(Accessor::Header((*name).into())),
        ["id", ..] => return Err(Unkeyable::id("input.attributes.request.http.id")),
        ["protocol", ..] => projection.fields.push(Accessor::Protocol),
        _ => return Err(Unkeyable::whole(path)),
    }
    Ok(())
}

fn add_principal(projection: &mut Projection) {
    for path in [
        &["client", "verified"][..],
        &["client", "san", "uri"],
        &["client", "san", "dns"],
        &["client", "subject", "dn"],
    ] {
        projection.add_subject(path);
    }
}

fn add_address(projection: &mut Projection) {
    projection.add_subject(&["connection", "remote_addr"]);
    projection.add_subject(&["connection", "remote_port"]);
}
