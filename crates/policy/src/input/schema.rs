//! The fields of the input as data: what `ringward check` compares references with, what `ringward policy schema` prints,
//! and what an input that somebody wrote is completed and judged by.
//!
//! Here is the language in which fields are described, and the native input in it; the other shapes describe theirs beside
//! what builds them.

use regorus::Value;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::input::builder::Builder;
use crate::input::sample;
use crate::input::shape::InputShape;

/// A field of the input. Only objects and maps have anything below them.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    about: &'static str,
    /// Whether a request may lack it.
    pub(crate) optional: bool,
}

/// What a field holds.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Integer,
    Boolean,
    /// A list of texts.
    Texts,
    /// Texts by names that the request or the configuration gives, present or not.
    TextMap,
    /// Lists of texts by such names.
    TextsMap,
    /// Texts by such names, beside these fields.
    TextMapWith(&'static [Field]),
    /// By such names a text, a list of texts where there are several, or `true` where there is none.
    LooseMap,
    /// Whatever JSON there is; null for none.
    Json,
    /// These fields and no others.
    Object(&'static [Field]),
}

pub(super) const fn field(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, about, optional: false }
}

/// A field that a request may lack. The native input has none.
pub(super) const fn optional(field: Field) -> Field {
    Field { optional: true, ..field }
}

pub(super) const fn text(name: &'static str, about: &'static str) -> Field {
    field(name, Kind::Text, about)
}

pub(super) const fn texts(name: &'static str, about: &'static str) -> Field {
    field(name, Kind::Texts, about)
}

pub(super) const fn integer(name: &'static str, about: &'static str) -> Field {
    field(name, Kind::Integer, about)
}

pub(super) const fn boolean(name: &'static str, about: &'static str) -> Field {
    field(name, Kind::Boolean, about)
}

pub(super) const fn object(name: &'static str, about: &'static str, fields: &'static [Field]) -> Field {
    field(name, Kind::Object(fields), about)
}

/// The fields of the native `input`.
pub(crate) const INPUT: &[Field] =
    &[CLIENT, CONNECTION, REQUEST, ROUTE, TIME, integer("version", "version of this document")];

pub(super) const CLIENT: Field = object(
    "client",
    "who is calling, by the verified certificate; empty without one",
    &[
        integer("chain_depth", "certificates from the leaf to the CA, the CA left out"),
        texts("extended_key_usages", "dotted OIDs"),
        field(
            "extensions",
            Kind::TextMap,
            "text of the extensions that the configuration selects, by dotted OID",
        ),
        text("fingerprint_sha256", "of the certificate, hexadecimal"),
        text("identity", "what the tenant calls the client; the name without a tenant"),
        object("issuer", "who signed the certificate", &[text("dn", "for people to read")]),
        text("name", "for people to read"),
        integer("not_after_unix", "end of validity, seconds since 1970"),
        integer("not_before_unix", "begin of validity, seconds since 1970"),
        texts("policy_oids", "certificate policies, dotted OIDs"),
        object(
            "san",
            "alternative names of the subject",
            &[
                texts("dns", "DNS names"),
                texts("email", "email addresses"),
                texts("ip", "IP addresses"),
                texts("uri", "URIs, a SPIFFE ID too"),
            ],
        ),
        text("serial", "serial number, hexadecimal"),
        text("spiffe_id", "the SPIFFE ID"),
        object(
            "subject",
            "the certificate's subject",
            &[
                text("common_name", "the only common name; empty if there are several"),
                texts("common_names", "all of them"),
                text("dn", "for people to read"),
                texts("organization_identifiers", "such as a PSD2 authorisation number"),
                texts("organizational_units", "OU"),
                texts("organizations", "O"),
            ],
        ),
        text("tenant", "the tenant whose rules the certificate matches"),
        text("trust_domain", "of the SPIFFE ID"),
        boolean("verified", "whether the client proved to have a trusted certificate"),
    ],
);

pub(super) const CONNECTION: Field = object(
    "connection",
    "how the client is connected",
    &[
        text("alpn", "negotiated protocol"),
        integer("auth_age_seconds", "time since the client last proved its key"),
        integer("auth_time_unix", "when the client last proved its key, seconds since 1970"),
        text("cipher", "cipher suite by its IANA name"),
        integer("local_port", "the port that accepted the connection"),
        text("remote_addr", "IP address of the client"),
        integer("remote_port", "port of the client"),
        boolean("resumed", "whether the TLS session was resumed"),
        text("sni", "server name of the TLS handshake"),
        text("tls_version", "such as `TLSv1.3`"),
    ],
);

const REQUEST: Field = object(
    "request",
    "what the client asks for",
    &[
        object(
            "body",
            "its body, as far as the route has policies look at it; not decoded",
            &[
                optional(field(
                    "json",
                    Kind::Json,
                    "its value, if it is JSON by its content type, and whole; absent otherwise",
                )),
                integer("size", "how many bytes of it were read"),
                text("text", "as text; U+FFFD for what is none"),
                boolean("truncated", "whether there is more of it, which was not looked at"),
            ],
        ),
        field("headers", Kind::TextMap, "header fields by name in lower case; several of one name joined"),
        field("headers_all", Kind::TextsMap, "the same, as lists"),
        text("host", "the host asked for, lower case, no port"),
        text("id", "id of the request in the log"),
        text("method", "as received"),
        text("path", "normalised: what router, log and upstream use too"),
        text("protocol", "such as `HTTP/1.1`"),
        field("query", Kind::TextsMap, "decoded parameters of the query by name"),
        text("raw_path", "path and query as received"),
        text("scheme", "`https` or `http`"),
        texts("segments", "parts of the path, each decoded after the split"),
    ],
);

pub(super) const ROUTE: Field = object(
    "route",
    "the route that serves the request",
    &[
        text("id", "its id in the configuration"),
        field("labels", Kind::TextMap, "its labels in the configuration"),
        field("params", Kind::TextMap, "what the template's parameters stand for"),
        text("template", "its path template, such as `/orders/{id}`"),
        text("upstream", "the cluster it leads to"),
    ],
);

pub(super) const TIME: Field =
    object("time", "when the request is decided", &[integer("unix_s", "seconds since 1970")]);

/// What a path below `input` leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Something that every input has.
    Field,
    /// An entry that a request may lack.
    Entry,
    /// Nothing, ever.
    Unknown {
        /// The path to the last known field, dotted.
        parent: String,
        /// The first unknown name.
        name: String,
    },
}

/// Looks a path up; `*` stands for a name that is computed.
pub(crate) fn look_up(shape: InputShape, names: &[String]) -> Lookup {
    let mut fields = shape.fields();
    let mut found = Lookup::Field;
    for (index, name) in names.iter().enumerate() {
        if name == "*" {
            return found;
        }
        let field = fields.iter().find(|field| field.name == name);
        let Some(field) = field else {
            return Lookup::Unknown { parent: names[..index].join("."), name: name.clone() };
        };
        if field.optional {
            found = Lookup::Entry;
        }
        let next = names.get(index + 1);
        fields = match field.kind {
            Kind::Text | Kind::Integer | Kind::Boolean | Kind::Texts => &[],
            Kind::Object(fields) => fields,
            Kind::TextMapWith(fields)
                if next.is_some_and(|next| fields.iter().any(|field| field.name == next)) =>
            {
                fields
            }
            Kind::TextMap | Kind::TextsMap | Kind::TextMapWith(_) | Kind::LooseMap | Kind::Json => {
                return if next.is_some() { Lookup::Entry } else { found };
            }
        };
    }
    found
}

/// The fixed names below a dotted path.
pub(crate) fn names_below(shape: InputShape, path: &str) -> impl Iterator<Item = &'static str> {
    let mut fields = shape.fields();
    for name in path.split('.').filter(|name| !name.is_empty()) {
        fields = match fields.iter().find(|field| field.name == name).map(|field| &field.kind) {
            Some(Kind::Object(fields)) => fields,
            _ => &[],
        };
    }
    fields.iter().map(|field| field.name)
}

impl Kind {
    /// As people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Text => "string",
            Kind::Integer => "integer",
            Kind::Boolean => "boolean",
            Kind::Texts => "list of strings",
            Kind::TextMap => "map of strings",
            Kind::TextsMap => "map of lists of strings",
            Kind::TextMapWith(_) => "map of strings",
            Kind::LooseMap => "map of strings, lists of strings or true",
            Kind::Json => "JSON value",
            Kind::Object(_) => "object",
        }
    }

    /// What a field of this kind holds where there is nothing.
    pub(crate) fn empty(self) -> Json {
        match self {
            Kind::Text => json!(""),
            Kind::Integer => json!(0),
            Kind::Boolean => json!(false),
            Kind::Texts => json!([]),
            Kind::TextMap | Kind::TextsMap | Kind::LooseMap => json!({}),
            Kind::Json => Json::Null,
            Kind::Object(fields) | Kind::TextMapWith(fields) => fields
                .iter()
                .filter(|field| !field.optional)
                .map(|field| (field.name.to_owned(), field.kind.empty()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    fn json_schema(self) -> Json {
        match self {
            Kind::Text => json!({ "type": "string" }),
            Kind::Integer => json!({ "type": "integer" }),
            Kind::Boolean => json!({ "type": "boolean" }),
            Kind::Texts => json!({ "type": "array", "items": Kind::Text.json_schema() }),
            Kind::TextMap => json!({ "type": "object", "additionalProperties": Kind::Text.json_schema() }),
            Kind::TextsMap => json!({ "type": "object", "additionalProperties": Kind::Texts.json_schema() }),
            Kind::LooseMap => {
                let loose = json!({ "anyOf": [Kind::Text.json_schema(), Kind::Texts.json_schema(), { "const": true }] });
                json!({ "type": "object", "additionalProperties": loose })
            }
            Kind::Json => json!({}),
            Kind::Object(fields) => object_schema(fields, json!(false)),
            Kind::TextMapWith(fields) => object_schema(fields, Kind::Text.json_schema()),
        }
    }
}

/// The schema of an object with these fields; what else it may have is as `others` say.
fn object_schema(fields: &'static [Field], others: Json) -> Json {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = field.kind.json_schema();
        schema["description"] = field.about.into();
        properties.insert(field.name.to_owned(), schema);
    }
    let required: Vec<&str> = fields.iter().filter(|field| !field.optional).map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": others })
}

/// A field of the input that holds a value, as people read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputField {
    /// Its path, as `input.request.path`.
    pub path: String,
    /// What it holds, as `string` or `map of lists of strings`.
    pub kind: &'static str,
    /// Whether a request may lack it.
    pub optional: bool,
    /// What it says.
    pub about: &'static str,
    /// What it might be, as JSON.
    pub example: String,
}

/// Every field of the input.
pub fn input_fields(shape: InputShape) -> Vec<InputField> {
    fn add(
        fields: &'static [Field],
        path: &str,
        within_optional: bool,
        example: &Json,
        all: &mut Vec<InputField>,
    ) {
        for field in fields {
            let (path, example) = (format!("{path}.{}", field.name), &example[field.name]);
            let optional = within_optional || field.optional;
            match field.kind {
                Kind::Object(fields) => add(fields, &path, optional, example, all),
                kind => all.push(InputField {
                    path,
                    kind: kind.name(),
                    optional,
                    about: field.about,
                    example: example.to_string(),
                }),
            }
        }
    }
    let mut all = Vec::new();
    add(shape.fields(), "input", false, &example(shape), &mut all);
    all
}

/// The input as a JSON Schema (draft 2020-12) with an example.
pub fn input_json_schema(shape: InputShape) -> Json {
    let mut schema = Kind::Object(shape.fields()).json_schema();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Input of a policy".into();
    schema["examples"] = json!([example(shape)]);
    schema
}

/// The input of an invented request.
pub(crate) fn example(shape: InputShape) -> Json {
    // Nothing is wrong with the invented request.
    let document = Builder::whole(shape).build(&sample::subject(), &sample::request());
    document.map_or(Json::Null, |document| json_of(&document))
}

/// A value of the evaluator as JSON.
pub(crate) fn json_of(value: &Value) -> Json {
    // Sets are arrays; keys that are no text, which JSON does not have, are written as text.
    serde_json::to_value(value).unwrap_or(Json::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `value` is what `kind` says, everything in it included.
    fn fits(kind: Kind, value: &Json) -> bool {
        let texts = |value: &Json| value.as_array().is_some_and(|items| items.iter().all(Json::is_string));
        let entries = |value: &Json, fits: &dyn Fn(&Json) -> bool| {
            value.as_object().is_some_and(|map| map.values().all(fits))
        };
        let has = |fields: &[Field], object: &Map<String, Json>| {
            fields.iter().all(|field| match object.get(field.name) {
                Some(value) => fits(field.kind, value),
                None => field.optional,
            })
        };
        match kind {
            Kind::Text => value.is_string(),
            Kind::Integer => value.is_i64(),
            Kind::Boolean => value.is_boolean(),
            Kind::Texts => texts(value),
            Kind::TextMap => entries(value, &Json::is_string),
            Kind::TextsMap => entries(value, &texts),
            Kind::TextMapWith(fields) => {
                entries(value, &Json::is_string) && has(fields, value.as_object().unwrap())
            }
            Kind::LooseMap => {
                entries(value, &|value| value.is_string() || texts(value) || *value == Json::Bool(true))
            }
            Kind::Json => true,
            Kind::Object(fields) => value.as_object().is_some_and(|object| {
                let known = |name: &String| fields.iter().any(|field| field.name == name);
                object.keys().all(known) && has(fields, object)
            }),
        }
    }

    #[test]
    fn the_document_that_is_built_fits() {
        for shape in InputShape::ALL {
            let fields = Kind::Object(shape.fields());
            assert!(fits(fields, &example(shape)), "{shape}: {}", example(shape));
            assert!(fits(fields, &fields.empty()), "{shape}");
        }
    }

    #[test]
    fn every_field_is_listed_with_its_type_and_an_example() {
        let fields = input_fields(InputShape::Native);
        let of = |path: &str| fields.iter().find(|field| field.path == path).unwrap();
        let path = of("input.request.path");
        assert_eq!((path.kind, path.example.as_str()), ("string", "\"/orders/17\""));
        assert_eq!(of("input.route.params").example, "{\"id\":\"17\"}");
        assert_eq!(of("input.client.verified").kind, "boolean");
        let optional: Vec<_> =
            fields.iter().filter(|field| field.optional).map(|field| &field.path[..]).collect();
        assert_eq!(optional, ["input.request.body.json"]);
        assert!(fields.iter().all(|field| field.example != "null"));
        for shape in InputShape::ALL {
            assert!(input_fields(shape).iter().all(|field| !field.about.is_empty()));
        }
    }

    #[test]
    fn the_json_schema_is_closed_where_the_document_is() {
        let schema = input_json_schema(InputShape::Native);
        let request = &schema["properties"]["request"];
        assert_eq!(request["additionalProperties"], json!(false));
        assert_eq!(request["properties"]["query"]["additionalProperties"]["type"], json!("array"));
        assert_eq!(schema["examples"][0]["request"]["method"], json!("GET"));
        assert_eq!(schema["required"].as_array().map(Vec::len), Some(INPUT.len()));
    }

    #[test]
    fn what_may_be_missing_is_an_entry() {
        let look_up = |path: &str| {
            look_up(InputShape::EnvoyV3, &path.split('.').map(str::to_owned).collect::<Vec<_>>())
        };
        for (path, expected) in [
            ("attributes.request.http.method", Lookup::Field),
            ("attributes.request.http.headers", Lookup::Field),
            ("attributes.request.http.headers.:path", Lookup::Field),
            ("attributes.request.http.headers.x-a", Lookup::Entry),
            ("attributes.request.http.body", Lookup::Entry),
            ("attributes.source.principal", Lookup::Entry),
            ("attributes.tlsSession", Lookup::Entry),
            ("attributes.tlsSession.sni", Lookup::Entry),
            ("attributes.tlsSession.*", Lookup::Entry),
            ("attributes.contextExtensions.team", Lookup::Entry),
            ("parsed_body", Lookup::Field),
            ("parsed_body.a.b", Lookup::Entry),
            ("parsed_path", Lookup::Field),
        ] {
            assert_eq!(look_up(path), expected, "{path}");
        }
        let unknown = Lookup::Unknown { parent: "attributes.request.http".into(), name: "query".into() };
        assert_eq!(look_up("attributes.request.http.query"), unknown);
    }
}
