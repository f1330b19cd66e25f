//! The shape of the input as data: what `ringward check` compares references with, what `ringward policy schema` prints,
//! and what an input that somebody wrote is completed and judged by.

use regorus::Value;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::input::document::{Builder, Parts};
use crate::input::sample;

/// A field of the input. Only objects and maps have anything below them.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    about: &'static str,
}

impl Field {
    /// Whether some inputs do not have it.
    fn is_optional(&self) -> bool {
        matches!(self.kind, Kind::Json)
    }
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
    /// Any value; absent where there is none.
    Json,
    /// These fields and no others, always present but for [`Kind::Json`].
    Object(&'static [Field]),
}

const fn field(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, about }
}

const fn text(name: &'static str, about: &'static str) -> Field {
    field(name, Kind::Text, about)
}

const fn texts(name: &'static str, about: &'static str) -> Field {
    field(name, Kind::Texts, about)
}

const fn integer(name: &'static str, about: &'static str) -> Field {
    field(name, Kind::Integer, about)
}

const fn boolean(name: &'static str, about: &'static str) -> Field {
    field(name, Kind::Boolean, about)
}

const fn object(name: &'static str, about: &'static str, fields: &'static [Field]) -> Field {
    field(name, Kind::Object(fields), about)
}

/// The fields of `input`.
pub(crate) const INPUT: &[Field] = &[
    object(
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
    ),
    object(
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
    ),
    object(
        "request",
        "what the client asks for",
        &[
            object(
                "body",
                "its body, as far as the route has policies look at it; not decoded",
                &[
                    field(
                        "json",
                        Kind::Json,
                        "its value, if it is JSON by its content type, and whole; absent otherwise",
                    ),
                    integer("size", "how many bytes of it were read"),
                    text("text", "as text; U+FFFD for what is none"),
                    boolean("truncated", "whether there is more of it, which was not looked at"),
                ],
            ),
            field(
                "headers",
                Kind::TextMap,
                "header fields by name in lower case; several of one name joined",
            ),
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
    ),
    object(
        "route",
        "the route that serves the request",
        &[
            text("id", "its id in the configuration"),
            field("labels", Kind::TextMap, "its labels in the configuration"),
            field("params", Kind::TextMap, "what the template's parameters stand for"),
            text("template", "its path template, such as `/orders/{id}`"),
            text("upstream", "the cluster it leads to"),
        ],
    ),
    object("time", "when the request is decided", &[integer("unix_s", "seconds since 1970")]),
    integer("version", "version of this document"),
];

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
pub(crate) fn look_up(names: &[String]) -> Lookup {
    let mut fields = Some(INPUT);
    for (index, name) in names.iter().enumerate() {
        if name == "*" {
            return Lookup::Field;
        }
        let Some(field) = fields.and_then(|fields| fields.iter().find(|field| field.name == name)) else {
            return Lookup::Unknown { parent: names[..index].join("."), name: name.clone() };
        };
        fields = match field.kind {
            Kind::Text | Kind::Integer | Kind::Boolean | Kind::Texts => None,
            Kind::Object(fields) => Some(fields),
            Kind::Json => return Lookup::Entry,
            Kind::TextMap | Kind::TextsMap => {
                return if index + 1 < names.len() { Lookup::Entry } else { Lookup::Field };
            }
        };
    }
    Lookup::Field
}

/// The fixed names below a dotted path.
pub(crate) fn names_below(path: &str) -> impl Iterator<Item = &'static str> {
    let mut fields = INPUT;
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
            Kind::TextMap | Kind::TextsMap => json!({}),
            Kind::Json => Json::Null,
            Kind::Object(fields) => fields
                .iter()
                .filter(|field| !field.is_optional())
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
            Kind::Json => json!({}),
            Kind::Object(fields) => {
                let mut properties = Map::new();
                for field in fields {
                    let mut schema = field.kind.json_schema();
                    schema["description"] = field.about.into();
                    properties.insert(field.name.to_owned(), schema);
                }
                let required = fields.iter().filter(|field| !field.is_optional());
                let required: Vec<&str> = required.map(|field| field.name).collect();
                json!({
                    "type": "object",
                    "properties": properties,
                    "required": required,
                    "additionalProperties": false,
                })
            }
        }
    }
}

/// A field of the input that holds a value, as people read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputField {
    /// Its path, as `input.request.path`.
    pub path: String,
    /// What it holds, as `string` or `map of lists of strings`.
    pub kind: &'static str,
    /// What it says.
    pub about: &'static str,
    /// What it might be, as JSON.
    pub example: String,
}

/// Every field of the input.
pub fn input_fields() -> Vec<InputField> {
    fn add(fields: &'static [Field], path: &str, example: &Json, all: &mut Vec<InputField>) {
        for field in fields {
            let (path, example) = (format!("{path}.{}", field.name), &example[field.name]);
            match field.kind {
                Kind::Object(fields) => add(fields, &path, example, all),
                kind => all.push(InputField {
                    path,
                    kind: kind.name(),
                    about: field.about,
                    example: example.to_string(),
                }),
            }
        }
    }
    let mut all = Vec::new();
    add(INPUT, "input", &example(), &mut all);
    all
}

/// The input as a JSON Schema (draft 2020-12) with an example.
pub fn input_json_schema() -> Json {
    let mut schema = Kind::Object(INPUT).json_schema();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Input of a policy".into();
    schema["examples"] = json!([example()]);
    schema
}

/// The input of an invented request.
pub(crate) fn example() -> Json {
    let document = Builder::new(Parts::ALL).build(&sample::subject(), &sample::request());
    json_of(&document.expect("the invented request has a good body"))
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
        match kind {
            Kind::Text => value.is_string(),
            Kind::Integer => value.is_i64(),
            Kind::Boolean => value.is_boolean(),
            Kind::Texts => texts(value),
            Kind::TextMap => value.as_object().is_some_and(|map| map.values().all(Json::is_string)),
            Kind::TextsMap => value.as_object().is_some_and(|map| map.values().all(texts)),
            Kind::Json => true,
            Kind::Object(fields) => value.as_object().is_some_and(|object| {
                object.keys().all(|name| fields.iter().any(|field| field.name == name))
                    && fields.iter().all(|field| match object.get(field.name) {
                        Some(value) => fits(field.kind, value),
                        None => field.is_optional(),
                    })
            }),
        }
    }

    #[test]
    fn the_document_that_is_built_fits() {
        assert!(fits(Kind::Object(INPUT), &example()));
        assert!(fits(Kind::Object(INPUT), &Kind::Object(INPUT).empty()));
    }

    #[test]
    fn every_field_is_listed_with_its_type_and_an_example() {
        let fields = input_fields();
        let of = |path: &str| fields.iter().find(|field| field.path == path).unwrap();
        let path = of("input.request.path");
        assert_eq!((path.kind, path.example.as_str()), ("string", "\"/orders/17\""));
        assert_eq!(of("input.route.params").example, "{\"id\":\"17\"}");
        assert_eq!(of("input.client.verified").kind, "boolean");
        assert!(fields.iter().all(|field| !field.about.is_empty() && field.example != "null"));
    }

    #[test]
    fn the_json_schema_is_closed_where_the_document_is() {
        let schema = input_json_schema();
        let request = &schema["properties"]["request"];
        assert_eq!(request["additionalProperties"], json!(false));
        assert_eq!(request["properties"]["query"]["additionalProperties"]["type"], json!("array"));
        assert_eq!(schema["examples"][0]["request"]["method"], json!("GET"));
        assert_eq!(schema["required"].as_array().map(Vec::len), Some(INPUT.len()));
    }
}
