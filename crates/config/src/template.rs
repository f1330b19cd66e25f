//! Texts with places for what a request says: `https://{host}/new/{id}{query}`.
//!
//! Hides the grammar. A name that a template could never fill is refused when the configuration is read. Nothing is encoded or
//! decoded: what is put in has the form that it has in a request, or in a certificate.

mod place;

use std::fmt;

use self::place::Place;
pub use self::place::TemplateValues;
use crate::path::PathPattern;

/// A text with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Place(Place),
}

impl Template {
    /// Reads the template of a URL, in a route with this path.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(crate) fn parse(text: &str, pattern: &PathPattern) -> Result<Self, String> {
        Self::read(text, false, |name| Place::of_url(name, pattern))
    }

    /// Reads the template of a path that a route with this path sends its requests to.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(crate) fn parse_path(text: &str, pattern: &PathPattern) -> Result<Self, String> {
        let place = |name: &str| match Place::of_url(name, pattern)? {
            Place::Query => Err("has {query}, which goes with every path".to_owned()),
            place => Ok(place),
        };
        Self::read(text, false, place)
    }

    /// The path of a request with `text` instead of its first bytes.
    pub(crate) fn instead_of_prefix(text: &str, bytes: usize) -> Self {
        let pieces = vec![Piece::Text(text.into()), Piece::Place(Place::PathFrom(bytes))];
        Self { text: format!("{text}...").into(), pieces }
    }

    /// The text with examples put in.
    pub(crate) fn sample(&self) -> String {
        let example = |piece: &Piece| match piece {
            Piece::Text(text) => text.to_string(),
            Piece::Place(Place::Path) => "/x".to_owned(),
            Piece::Place(_) => "x".to_owned(),
        };
        self.pieces.iter().map(example).collect()
    }

    /// Reads the template of a field's value, in which `{{` and `}}` stand for braces; in a route with this path, or where no
    /// path is known.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(crate) fn parse_value(text: &str, pattern: Option<&PathPattern>) -> Result<Self, String> {
        Self::read(text, true, |name| Place::of_value(name, pattern))
    }

    fn read(
        text: &str,
        doubled: bool,
        place: impl Fn(&str) -> Result<Place, String>,
    ) -> Result<Self, String> {
        let (mut pieces, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (brace, after) = rest[at..].split_at(1);
            literal.push_str(&rest[..at]);
            if let (true, Some(after)) = (doubled, after.strip_prefix(brace)) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err("has a '}' without '{'".to_owned());
            }
            let (name, after) = after.split_once('}').ok_or("has a '{' without '}'")?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
            }
            pieces.push(Piece::Place(place(name)?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal.into()));
        }
        Ok(Self { text: text.into(), pieces })
    }

    /// How many places it has.
    pub(crate) fn places(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece, Piece::Place(_))).count()
    }

    /// Whether it says something of the client's certificate.
    pub(crate) fn names_client(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Place(Place::Client(_))))
    }

    /// Whether it begins with `/`, or with `http://` or `https://` and a host that is written out or `{host}`: so that no client
    /// chooses to which host it leads.
    pub(crate) fn has_own_host(&self) -> bool {
        let mut pieces = self.pieces.iter();
        let Some(Piece::Text(first)) = pieces.next() else { return false };
        if first.starts_with('/') {
            return !first.starts_with("//");
        }
        let Some(authority) = first.strip_prefix("https://").or_else(|| first.strip_prefix("http://")) else {
            return false;
        };
        match authority.split_once('/') {
            Some((host, _)) => !host.is_empty(),
            // The place that follows is the whole host, or there is none.
            None if authority.is_empty() => {
                pieces.next() == Some(&Piece::Place(Place::Host))
                    && match pieces.next() {
                        None | Some(Piece::Place(Place::Path)) => true,
                        Some(Piece::Text(text)) => match text.strip_prefix(':') {
                            None => text.starts_with('/'),
                            // Behind a port that something else continued, all before it would be a user's name.
                            Some(rest) => match rest.split_once('/') {
                                Some((port, _)) => is_port(port),
                                None => {
                                    is_port(rest)
                                        && pieces.next().is_none_or(|next| *next == Piece::Place(Place::Path))
                                }
                            },
                        },
                        Some(_) => false,
                    }
            }
            None => pieces.next().is_none_or(|next| *next == Piece::Place(Place::Path)),
        }
    }

    /// Appends the text with everything put in. False if a place has nothing to stand for; what was appended is then of no use.
    pub fn append(&self, out: &mut String, values: &TemplateValues<'_>) -> bool {
        self.pieces.iter().all(|piece| match piece {
            Piece::Text(text) => {
                out.push_str(text);
                true
            }
            Piece::Place(place) => place.append(out, values),
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Params;

    fn values<'r>(path: &'r str, params: &'r Params) -> TemplateValues<'r> {
        TemplateValues {
            host: "a.test",
            path,
            query: None,
            params,
            method: "GET",
            request_id: "2a-1",
            client_ip: "192.0.2.1",
            peer: None,
        }
    }

    fn parse(text: &str) -> Result<Template, String> {
        Template::parse(text, &PathPattern::parse("/old/{id}/{rest...}").unwrap())
    }

    #[test]
    fn places_are_filled() {
        let path = "/old/7%20/a/b";
        let params = PathPattern::parse("/old/{id}/{rest...}").unwrap().matches(path).unwrap();
        for (text, query, expected) in [
            ("/new/{id}", None, "/new/7%20"),
            ("/{rest}?id={id}", Some("x=1"), "/a/b?id=7%20"),
            ("https://{host}{path}{query}", Some("x=1"), "https://a.test/old/7%20/a/b?x=1"),
            ("https://{host}{path}{query}", None, "https://a.test/old/7%20/a/b"),
            ("/{id}{id}", None, "/7%207%20"),
        ] {
            let values = TemplateValues { query, ..values(path, &params) };
            let mut filled = String::new();
            assert!(parse(text).unwrap().append(&mut filled, &values), "{text}");
            assert_eq!(filled, expected, "{text}");
        }
        for text in ["/{nothing}", "/{", "/}", "/{id", "/{}", "/{{id}}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_of_fields_know_the_request_and_may_have_braces() {
        let pattern = PathPattern::parse("/old/{id}").unwrap();
        let params = pattern.matches("/old/7").unwrap();
        let values = values("/old/7", &params);
        for (text, expected) in [
            ("", Some("")),
            ("{{\"id\": {id}}}", Some("{\"id\": 7}")),
            ("{request.method} {path} {request.id} {client.ip}", Some("GET /old/7 2a-1 192.0.2.1")),
            ("a {client.tenant} b", None),
            ("{client.spiffe_id}", None),
        ] {
            let (mut filled, template) = (String::new(), Template::parse_value(text, Some(&pattern)));
            let is_filled = template.unwrap().append(&mut filled, &values);
            assert_eq!(is_filled.then_some(&*filled), expected, "{text}");
        }
        for text in ["{other}", "{client.other}", "{", "}", "{id}}"] {
            assert!(Template::parse_value(text, Some(&pattern)).is_err(), "{text}");
        }
        assert!(Template::parse_value("{id}", None).is_err());
        assert!(Template::parse("/{client.ip}", &pattern).is_err(), "a URL is for everybody to read");
    }

    #[test]
    fn a_name_means_one_thing() {
        let pattern = PathPattern::parse("/{host}/{path...}").unwrap();
        for text in ["/{host}", "/x{path}"] {
            assert!(Template::parse(text, &pattern).unwrap_err().contains("rename the parameter"), "{text}");
            assert!(Template::parse_path(text, &pattern).is_err(), "{text}");
            assert!(Template::parse_value(text, Some(&pattern)).is_err(), "{text}");
            assert!(Template::parse_value(text, None).is_ok(), "{text}");
        }
        assert!(Template::parse("/x{query}", &pattern).is_ok());
    }

    /// Otherwise whoever makes a link chooses where the redirect leads.
    #[test]
    fn no_place_decides_about_the_host() {
        for (text, expected) in [
            ("/new/{id}", true),
            ("/{rest}", true),
            ("https://b.test/{rest}", true),
            ("https://b.test", true),
            ("https://b.test{path}", true),
            ("https://{host}{path}", true),
            ("https://{host}/{rest}", true),
            ("http://{host}:8080{path}", true),
            ("{rest}", false),
            ("{path}", false),
            ("//{rest}", false),
            ("https://{rest}", false),
            ("https://{host}{rest}", false),
            ("https://{host}.{id}/", false),
            ("https://b.test{rest}", false),
            ("https://{host}:8080", true),
            ("https://{host}:8080/{rest}", true),
            ("https://{host}:8443{rest}", false),
            ("https://{host}:{rest}", false),
            ("https://{host}:{id}/", false),
            ("https://{host}:8443@{id}/", false),
            ("https://b.{id}/", false),
            ("https:///{rest}", false),
            ("ftp://b.test/", false),
            ("javascript:{id}", false),
            ("", false),
        ] {
            assert_eq!(parse(text).unwrap().has_own_host(), expected, "{text}");
        }
    }
}
