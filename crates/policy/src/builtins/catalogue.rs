//! Which builtin functions a policy may call.
//!
//! A list of what is allowed, not of what is refused: a builtin that a later regorus or another crate's feature brings
//! stays refused until someone has looked at it. regorus itself reports an unknown function only when a request
//! reaches the call; `check::calls` compares every call with this list instead.

/// An allowed builtin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Builtin {
    pub(crate) name: &'static str,
    pub(crate) arity: usize,
    /// Whether the result follows from the arguments alone.
    pub(crate) pure: bool,
}

/// The allowed builtin of this name.
pub(crate) fn allowed(name: &str) -> Option<&'static Builtin> {
    BUILTINS.binary_search_by(|builtin| builtin.name.cmp(name)).ok().map(|at| &BUILTINS[at])
}

/// Why a builtin known from OPA is refused, with the way around; `None` for names that OPA does not know either.
pub(crate) fn refused(name: &str) -> Option<&'static str> {
    let exact = REFUSED.iter().find(|(refused, _)| match refused.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => *refused == name,
    });
    exact.map(|(_, why)| *why)
}

const fn pure(name: &'static str, arity: usize) -> Builtin {
    Builtin { name, arity, pure: true }
}

const fn impure(name: &'static str, arity: usize) -> Builtin {
    Builtin { name, arity, pure: false }
}

/// In order of their names.
pub(crate) const BUILTINS: &[Builtin] = &[
    pure("abs", 1),
    pure("array.concat", 2),
    pure("array.reverse", 1),
    pure("array.slice", 3),
    pure("base64.decode", 1),
    pure("base64.encode", 1),
    pure("base64.is_valid", 1),
    pure("base64url.decode", 1),
    pure("base64url.encode", 1),
    pure("base64url.encode_no_pad", 1),
    pure("bits.and", 2),
    pure("bits.lsh", 2),
    pure("bits.negate", 1),
    pure("bits.or", 2),
    pure("bits.rsh", 2),
    pure("bits.xor", 2),
    pure("ceil", 1),
    pure("concat", 2),
    pure("contains", 2),
    pure("count", 1),
    pure("crypto.sha256", 1),
    pure("crypto.x509.parse_certificates", 1),
    pure("endswith", 2),
    pure("floor", 1),
    pure("format_int", 2),
    pure("glob.match", 3),
    pure("glob.quote_meta", 1),
    // What it reads is a part of the input, and counted as such.
    pure("header", 1),
    pure("hex.decode", 1),
    pure("hex.encode", 1),
    pure("indexof", 2),
    pure("indexof_n", 2),
    pure("intersection", 1),
    pure("is_array", 1),
    pure("is_boolean", 1),
    pure("is_null", 1),
    pure("is_number", 1),
    pure("is_object", 1),
    pure("is_set", 1),
    pure("is_string", 1),
    pure("json.filter", 2),
    pure("json.is_valid", 1),
    pure("json.marshal", 1),
    pure("json.remove", 2),
    pure("json.unmarshal", 1),
    pure("lower", 1),
    pure("max", 1),
    pure("min", 1),
    pure("net.cidr_contains", 2),
    pure("net.cidr_contains_matches", 2),
    pure("net.cidr_expand", 1),
    pure("net.cidr_intersects", 2),
    pure("net.cidr_is_valid", 1),
    pure("numbers.range", 2),
    pure("numbers.range_step", 3),
    pure("object.filter", 2),
    pure("object.get", 3),
    pure("object.keys", 1),
    pure("object.remove", 2),
    pure("object.subset", 2),
    pure("object.union", 2),
    pure("object.union_n", 1),
    pure("product", 1),
    impure("rand.intn", 2),
    pure("regex.find_all_string_submatch_n", 3),
    pure("regex.find_n", 3),
    pure("regex.is_valid", 1),
    pure("regex.match", 2),
    pure("regex.replace", 3),
    pure("regex.split", 2),
    pure("replace", 3),
    pure("round", 1),
    pure("semver.compare", 2),
    pure("semver.is_valid", 1),
    pure("sort", 1),
    pure("split", 2),
    pure("sprintf", 2),
    pure("startswith", 2),
    pure("strings.any_prefix_match", 2),
    pure("strings.any_suffix_match", 2),
    pure("strings.count", 2),
    pure("strings.replace_n", 2),
    pure("strings.reverse", 1),
    pure("substring", 3),
    pure("sum", 1),
    pure("time.add_date", 4),
    pure("time.clock", 1),
    pure("time.date", 1),
    pure("time.diff", 2),
    pure("time.format", 1),
    impure("time.now_ns", 0),
    pure("time.parse_duration_ns", 1),
    pure("time.parse_ns", 2),
    pure("time.parse_rfc3339_ns", 1),
    pure("time.weekday", 1),
    pure("to_number", 1),
    pure("trim", 2),
    pure("trim_left", 2),
    pure("trim_prefix", 2),
    pure("trim_right", 2),
    pure("trim_space", 1),
    pure("trim_suffix", 2),
    pure("type_name", 1),
    pure("union", 1),
    pure("units.parse", 1),
    pure("units.parse_bytes", 1),
    pure("upper", 1),
    pure("urlquery.decode", 1),
    pure("urlquery.decode_object", 1),
    pure("urlquery.encode", 1),
    pure("urlquery.encode_object", 1),
    pure("uuid.parse", 1),
    impure("uuid.rfc4122", 1),
];

const REFUSED: &[(&str, &str)] = &[
    ("http.send", "a decision must not wait for a network; put what it needs into a data document"),
    ("net.lookup_ip_addr", "a decision must not wait for a network; list the addresses in a data document"),
    ("opa.runtime", "configuration and environment of the proxy are none of a policy's business"),
    ("print", "it would write a line for every request; return `reason` in the decision, or print in a test"),
    ("trace", "nothing reads it; return `reason` in the decision instead"),
    ("test.sleep", "a decision must not wait"),
    ("yaml.*", "YAML takes unbounded time to read; use a data document or `json.unmarshal`"),
    ("json.marshal_with_options", "use `json.marshal`"),
    ("json.patch", "use `object.union`, `object.remove` or `json.filter`"),
    ("json.match_schema", "the input is always of the documented shape"),
    ("json.verify_schema", "the input is always of the documented shape"),
    ("regex.template_match", "use `regex.match`"),
    ("regex.globs_match", "use `glob.match`"),
    (
        "crypto.*",
        "not available; there are `crypto.sha256`, `crypto.x509.parse_certificates` and the claims of the client certificate in `input.client`",
    ),
    ("io.jwt.*", "not available yet"),
    (
        "net.cidr_*",
        "not available; use `net.cidr_contains`, `net.cidr_contains_matches` or `net.cidr_intersects`",
    ),
    ("walk", "not available; name the fields, or iterate over one level with `some key, value in`"),
    ("graph.*", "not available"),
    ("graphql.*", "not available"),
    ("providers.*", "not available"),
    ("rego.*", "not available"),
    ("strings.render_template", "use `sprintf`"),
    ("internal.*", "not available"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_our_own_or_a_builtin_of_regorus_with_that_arity() {
        let own = [
            "crypto.sha256",
            "crypto.x509.parse_certificates",
            "header",
            "net.cidr_contains_matches",
            "net.cidr_intersects",
        ];
        for builtin in BUILTINS {
            match regorus::unstable::BUILTINS.get(builtin.name) {
                Some((_, arity)) => assert_eq!(usize::from(*arity), builtin.arity, "{}", builtin.name),
                None => assert!(own.contains(&builtin.name), "{}", builtin.name),
            }
            assert_eq!(allowed(builtin.name), Some(builtin), "list is out of order at {}", builtin.name);
            let has_prefix = builtin.name.starts_with("net.cidr_") || builtin.name.starts_with("crypto.");
            assert!(refused(builtin.name).is_none() || has_prefix, "{}", builtin.name);
        }
    }

    #[test]
    fn every_builtin_of_regorus_is_allowed_or_refused_on_purpose() {
        for name in regorus::unstable::BUILTINS.keys().filter(|name| !name.starts_with("__")) {
            assert!(allowed(name).is_some() || refused(name).is_some(), "{name} is new: look at it");
        }
    }

    #[test]
    fn what_reaches_outside_is_refused() {
        for name in
            ["http.send", "opa.runtime", "net.lookup_ip_addr", "print", "yaml.unmarshal", "io.jwt.decode"]
        {
            assert!(allowed(name).is_none() && refused(name).is_some(), "{name}");
        }
    }
}
