//! The fields of OPA-Envoy's input as data.

use crate::input::schema::{
    CLIENT, CONNECTION, Field, Kind, ROUTE, TIME, boolean, field, integer, object, optional, text, texts,
};

/// The fields of `input`.
pub(crate) const FIELDS: &[Field] = &[
    object(
        "attributes",
        "what Envoy tells",
        &[
            optional(field(
                "contextExtensions",
                Kind::TextMap,
                "labels of the route; missing if it has none",
            )),
            object(
                "destination",
                "where the client is connected to",
                &[object(
                    "address",
                    "its address",
                    &[object(
                        "socketAddress",
                        "its address",
                        &[integer("portValue", "the port that accepted")],
                    )],
                )],
            ),
            object(
                "metadataContext",
                "metadata of filters",
                &[object(
                    "filterMetadata",
                    "by filter",
                    &[object("ringward", "as in the native input", &[CLIENT, CONNECTION, ROUTE, TIME])],
                )],
            ),
            object(
                "request",
                "what the client asks for",
                &[object("http", "the request", HTTP), text("time", "when it is decided, RFC 3339")],
            ),
            object(
                "source",
                "who is calling",
                &[
                    object(
                        "address",
                        "the client's address",
                        &[object(
                            "socketAddress",
                            "the client's address",
                            &[text("address", "IP address"), integer("portValue", "port")],
                        )],
                    ),
                    optional(text(
                        "principal",
                        "first URI, else DNS name, else subject of the verified certificate; missing without one",
                    )),
                ],
            ),
            optional(object(
                "tlsSession",
                "the TLS handshake; missing without a server name",
                &[text("sni", "server name")],
            )),
        ],
    ),
    field("parsed_body", Kind::Json, "the body, if it is JSON or a form and whole; else null"),
    texts("parsed_path", "parts of the path, each decoded after the split; one empty text for `/`"),
    field("parsed_query", Kind::TextsMap, "decoded parameters of the query by name"),
    boolean("truncated_body", "whether there is more of the body than was read"),
    object(
        "version",
        "version of this document",
        &[text("encoding", "always `protojson`"), text("ext_authz", "always `v3`")],
    ),
];

const HTTP: &[Field] = &[
    optional(text("body", "the body as far as it was read; missing if there is none or nothing was read")),
    field(
        "headers",
        Kind::TextMapWith(&[
            text(":authority", "the host, as `host`"),
            text(":method", "as `method`"),
            text(":path", "as `path`"),
            text(":scheme", "as `scheme`"),
        ]),
        "header fields by name in lower case, `host` left out; several of one name joined by a comma",
    ),
    text("host", "the host asked for, lower case, no port"),
    text("id", "id of the request in the log"),
    text("method", "as received"),
    text("path", "normalised path and the query"),
    text("protocol", "such as `HTTP/1.1`"),
    text("scheme", "`https` or `http`"),
    optional(text("size", "bytes of the body that were read, as text; missing if there are none")),
];

/// What follows from the body.
pub(crate) const BODY: &[&[&str]] = &[
    &["parsed_body"],
    &["truncated_body"],
    &["attributes", "request", "http", "body"],
    &["attributes", "request", "http", "size"],
    &["attributes", "request", "http", "headers", PARTIAL_BODY],
];

/// Where the native document's sections are.
pub(crate) const RINGWARD: &[&str] = &["attributes", "metadataContext", "filterMetadata", "ringward"];

/// Envoy's answer to whether the body is whole. It is not taken from clients.
pub(crate) const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";

/// What is elsewhere here, by its path.
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    (
        "attributes.destination.address.socketAddress.address",
        "the local address is not told, only `portValue`",
    ),
    (
        "attributes.destination.principal",
        "it would be Ringward's own name: look at `input.attributes.tlsSession.sni`",
    ),
    ("attributes.request.http.fragment", "no request has one; Envoy never fills it"),
    ("attributes.request.http.query", "Envoy never fills it: use `input.parsed_query`"),
    ("attributes.request.http.rawBody", "use `input.attributes.request.http.body`"),
    (
        "attributes.source.certificate",
        "use the claims in `input.attributes.metadataContext.filterMetadata.ringward.client`",
    ),
    ("client", "here it is `input.attributes.metadataContext.filterMetadata.ringward.client`"),
    ("connection", "here it is `input.attributes.metadataContext.filterMetadata.ringward.connection`"),
    ("request", "here it is `input.attributes.request.http`"),
    ("route", "here it is `input.attributes.metadataContext.filterMetadata.ringward.route`"),
    ("source_principal", "here it is `input.attributes.source.principal`"),
    ("time", "here it is `input.attributes.metadataContext.filterMetadata.ringward.time`"),
];
