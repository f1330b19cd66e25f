use std::collections::BTreeMap;

use serde::de::value::{Error, MapDeserializer};

use super::*;
use crate::raw;

#[derive(Debug, Default, Deserialize)]
#[serde(rename = "[test]", default, deny_unknown_fields)]
struct Section {
    flag: Field<bool>,
    word: Field<Word>,
    names: Field<Vec<Field<String>>>,
    inner: Field<Inner>,
    table: Field<BTreeMap<Spanned<String>, Field<Inner>>>,
    maybe: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename = "[test.inner]", default, deny_unknown_fields)]
struct Inner {
    depth: Field<raw::Count>,
}

#[derive(Debug, Deserialize)]
#[serde(rename = "test.word", rename_all = "snake_case")]
enum Word {
    Plain,
    Of(Field<String>),
}

/// The problems as `START..END message`, in the order of the text.
fn problems(text: &str) -> Vec<String> {
    let (_, mut problems) = decode::<Section>(text, Manner::default());
    problems.sort_by_key(|problem| problem.span.start);
    problems.iter().map(|problem| format!("{} {}", &text[problem.span.clone()], problem.message)).collect()
}

#[test]
fn what_is_readable_is_read_beside_what_is_not() {
    let (section, problems) = decode::<Section>(
        "flag = 1\nword = { of = \"x\" }\nnames = [\"a\", 2, \"c\"]\ninner = { depth = 7 }\n\
         [table.one]\ndepth = 1\n[table.two]\ndepth = -1\n",
        Manner::default(),
    );
    let section = section.unwrap();
    assert_eq!(problems.len(), 3);
    assert!(matches!(section.flag, Field::Unreadable(_)));
    assert!(matches!(section.word.value(), Some(Word::Of(Field::Given(text))) if text.get_ref() == "x"));
    let names = section.names.value().unwrap();
    assert_eq!(
        names.iter().map(|name| name.value().map(String::as_str)).collect::<Vec<_>>(),
        [Some("a"), None, Some("c")]
    );
    let inner = section.inner.given().unwrap();
    assert_eq!((inner.span().start, inner.get_ref().depth.value()), (59, Some(&raw::Count(7))));
    let table = section.table.value().unwrap();
    let depths: Vec<_> =
        table.values().map(|inner| inner.value().unwrap().depth.value().map(|count| count.0)).collect();
    assert_eq!(depths, [Some(1), None]);
    assert!(section.maybe.is_none());
}

#[test]
fn every_problem_is_reported_once_where_it_is() {
    for (text, expected) in [
        ("flag = \"yes\"", &["\"yes\" `flag`: expected a boolean, found string \"yes\""][..]),
        (
            "names = [1, [2]]",
            &[
                "1 `names`: expected a string, found integer `1`",
                "[2] `names`: expected a string, found a list",
            ],
        ),
        ("names = { a = 1 }", &["{ a = 1 } `names`: expected a list, found a table"]),
        ("inner = [1]", &["[1] `inner`: expected a table, found a list"]),
        (
            "inner.depth = 99999999999999999999",
            &["99999999999999999999 `depth`: the number 99999999999999999999 is too large"],
        ),
        (
            "inner.depth = 0xffffffffffffffff",
            &["0xffffffffffffffff `depth`: the number 0xffffffffffffffff is too large"],
        ),
        ("word = \"plane\"", &["\"plane\" `word`: unknown value \"plane\""]),
        ("word = { plain = 1 }", &["{ plain = 1 } `word`: \"plain\" takes no value: write it as a string"]),
        ("word = \"of\"", &["\"of\" `word`: \"of\" needs a value: { of = ... }"]),
        ("word = { of = 1 }", &["1 `of`: expected a string, found integer `1`"]),
        (
            "word = { of = \"x\", plain = 1 }",
            &["{ of = \"x\", plain = 1 } `word`: expected one of \"plain\", \"of\""],
        ),
        ("word = 07:32:00", &["07:32:00 `word`: expected one of \"plain\", \"of\", found a date or time"]),
        (
            "a = 1\nb.c = 2\ninner.x = 3\n[table.t]\ny = 4",
            &[
                "a unknown key `a` in [test]",
                "b unknown key `b` in [test]",
                "x unknown key `x` in [test.inner]",
                "y unknown key `y` in [test.inner]",
            ],
        ),
        ("flag = true\nflag = false", &["flag not valid TOML: duplicate key"]),
    ] {
        assert_eq!(problems(text), expected, "{text}");
    }
}

/// Whatever a `Field` swallows is in the list, else the file would pass as if the key were not there.
#[test]
fn an_unreadable_field_never_comes_without_a_report() {
    for value in ["1", "1.5", "\"x\"", "true", "[]", "{}", "1979-05-27", "[[1]]", "{ a = 1 }", "inf"] {
        for key in
            ["flag", "word", "names", "inner", "table", "inner.depth", "table.x", "table.x.depth", "word.of"]
        {
            let text = format!("{key} = {value}");
            let (section, problems) = decode::<Section>(&text, Manner::default());
            let shown = format!("{section:?}");
            let unknown = problems.iter().all(|problem| problem.message.starts_with("unknown key"));
            assert_eq!(shown.contains("Unreadable"), !unknown, "{text}: {shown} {problems:?}");
        }
    }
}

/// What a type tells serde about itself: its name and fields.
fn described<'de, T: Deserialize<'de>>() -> (&'static str, &'static [&'static str]) {
    struct Probe<'p>(&'p RefCell<(&'static str, &'static [&'static str])>);
    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = Error;
        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, &str)>()))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            *self.0.borrow_mut() = (name, fields);
            self.deserialize_any(visitor)
        }
        fn deserialize_enum<V: Visitor<'de>>(
            self,
            name: &'static str,
            variants: &'static [&'static str],
            _visitor: V,
        ) -> Result<V::Value, Error> {
            *self.0.borrow_mut() = (name, variants);
            Err(de::Error::custom("seen"))
        }
        serde::forward_to_deserialize_any! {
            bool u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 char str string seq option newtype_struct
            bytes byte_buf map unit ignored_any unit_struct tuple_struct tuple identifier
        }
    }
    let seen = RefCell::new(("", &[][..]));
    let _ = T::deserialize(Probe(&seen));
    seen.into_inner()
}

#[test]
fn notes_are_about_sections_that_exist_and_keys_that_do_not() {
    let sections = [
        described::<raw::File>(),
        described::<raw::Server>(),
        described::<raw::Admin>(),
        described::<raw::Log>(),
        described::<raw::Trust>(),
        described::<raw::Policy>(),
        described::<raw::PolicyCache>(),
        described::<raw::PolicyServer>(),
        described::<raw::Cluster>(),
        described::<raw::HealthCheck>(),
        described::<raw::OutlierDetection>(),
        described::<raw::Retry>(),
        described::<raw::RetryOn>(),
        described::<raw::UpstreamTls>(),
        described::<raw::ClientCertificate>(),
        described::<raw::Listener>(),
        described::<raw::Limits>(),
        described::<raw::Host>(),
        described::<raw::Certificate>(),
        described::<raw::ClientAuth>(),
        described::<raw::Forward>(),
        described::<raw::Route>(),
        described::<raw::HeaderEdits>(),
        described::<raw::Rewrite>(),
        described::<raw::Cors>(),
        described::<raw::Compression>(),
        described::<raw::Split>(),
        described::<raw::Mirror>(),
        described::<raw::Match>(),
        described::<raw::TextCondition>(),
        described::<raw::Redirect>(),
        described::<raw::Respond>(),
        described::<raw::IdentityMatch>(),
        described::<raw::IoDriver>(),
        described::<raw::AccessLog>(),
        described::<raw::Audit>(),
        described::<raw::Level>(),
        described::<raw::Engine>(),
        described::<raw::Balance>(),
        described::<raw::HashKey>(),
        described::<raw::IdentityKey>(),
        described::<raw::Endpoint>(),
        described::<raw::EndpointsFile>(),
        described::<raw::EndpointsDns>(),
        described::<raw::Family>(),
        described::<raw::EndpointList>(),
        described::<raw::Protocol>(),
        described::<raw::ClientAuthMode>(),
        described::<raw::Require>(),
        described::<raw::XfccMode>(),
        described::<raw::ForwardMode>(),
        described::<raw::ForwardedIdentity>(),
        described::<raw::SessionCache>(),
        described::<raw::Maintenance>(),
        described::<raw::Keys>(),
        described::<raw::Profile>(),
        described::<raw::Revocation>(),
        described::<raw::UpstreamRevocation>(),
        described::<raw::Tenant>(),
        described::<raw::TenantMatch>(),
        described::<raw::TenantLimits>(),
        described::<raw::HealthCheck>(),
        described::<raw::Tls>(),
        described::<raw::KeyKind>(),
        described::<raw::CrlMode>(),
        described::<raw::RevocationDepth>(),
        described::<raw::IdentitySource>(),
        described::<raw::OcspMode>(),
        described::<raw::Staple>(),
        described::<raw::Resumption>(),
        described::<raw::TlsVersion>(),
        described::<raw::CipherSuite>(),
        described::<raw::Group>(),
    ];
    for (section, key) in keys::noted() {
        let known = sections.iter().find(|(name, _)| *name == section);
        let (_, fields) = known.unwrap_or_else(|| panic!("there is no section {section}"));
        assert!(!fields.contains(&key), "{key} of {section} exists by now");
    }
}
