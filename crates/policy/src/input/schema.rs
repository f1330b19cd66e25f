//! The shape of the input as data: what `ringward check` compares references with.

/// A field of the input. Only objects have children.
struct Field {
    name: &'static str,
    children: Children,
}

enum Children {
    /// A scalar or a list: no names below it.
    None,
    /// These and no others, always present.
    Fixed(&'static [Field]),
    /// Entries named by the request or the configuration, present or not.
    Open,
}

const fn leaf(name: &'static str) -> Field {
    Field { name, children: Children::None }
}

const fn list(name: &'static str) -> Field {
    Field { name, children: Children::None }
}

const fn open(name: &'static str) -> Field {
    Field { name, children: Children::Open }
}

const fn object(name: &'static str, fields: &'static [Field]) -> Field {
    Field { name, children: Children::Fixed(fields) }
}

/// The fields of `input`.
const INPUT: &[Field] = &[
    object(
        "client",
        &[
            leaf("chain_depth"),
            list("extended_key_usages"),
            open("extensions"),
            leaf("fingerprint_sha256"),
            leaf("identity"),
            object("issuer", &[leaf("dn")]),
            leaf("name"),
            leaf("not_after_unix"),
            leaf("not_before_unix"),
            list("policy_oids"),
            object("san", &[list("dns"), list("email"), list("ip"), list("uri")]),
            leaf("serial"),
            leaf("spiffe_id"),
            object(
                "subject",
                &[
                    leaf("common_name"),
                    list("common_names"),
                    leaf("dn"),
                    list("organization_identifiers"),
                    list("organizational_units"),
                    list("organizations"),
                ],
            ),
            leaf("tenant"),
            leaf("trust_domain"),
            leaf("verified"),
        ],
    ),
    object(
        "connection",
        &[
            leaf("alpn"),
            leaf("auth_age_seconds"),
            leaf("auth_time_unix"),
            leaf("cipher"),
            leaf("local_port"),
            leaf("remote_addr"),
            leaf("remote_port"),
            leaf("resumed"),
            leaf("sni"),
            leaf("tls_version"),
        ],
    ),
    object(
        "request",
        &[
            open("headers"),
            open("headers_all"),
            leaf("host"),
            leaf("id"),
            leaf("method"),
            leaf("path"),
            leaf("protocol"),
            open("query"),
            leaf("raw_path"),
            leaf("scheme"),
            list("segments"),
        ],
    ),
    object("route", &[leaf("id"), open("labels"), open("params"), leaf("template"), leaf("upstream")]),
    object("time", &[leaf("unix_s")]),
    leaf("version"),
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
        fields = match field.children {
            Children::None => None,
            Children::Fixed(fields) => Some(fields),
            Children::Open => return if index + 1 < names.len() { Lookup::Entry } else { Lookup::Field },
        };
    }
    Lookup::Field
}

/// The fixed names below a dotted path.
pub(crate) fn names_below(path: &str) -> impl Iterator<Item = &'static str> {
    let mut fields = INPUT;
    for name in path.split('.').filter(|name| !name.is_empty()) {
        fields = match fields.iter().find(|field| field.name == name).map(|field| &field.children) {
            Some(Children::Fixed(fields)) => fields,
            _ => &[],
        };
    }
    fields.iter().map(|field| field.name)
}
