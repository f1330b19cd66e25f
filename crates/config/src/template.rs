//! Texts with places for what a request says: `https://{host}/new/{id}{query}`.
//!
//! Hides the grammar. A name that a template could never fill is refused when the configuration is read, so filling one cannot
//! fail. Nothing is encoded or decoded: what is put in has the form that it has in a request.

use std::fmt;

use crate::path::{Params, PathPattern};

/// A text with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Host,
    Path,
    Query,
    /// The parameter of the route's template with this index.
    Param(usize),
}

/// What the places stand for in one request.
#[derive(Clone, Copy, Debug)]
pub struct TemplateValues<'r> {
    /// The host that was asked for, normalised, without a port.
    pub host: &'r str,
    /// The normalised path.
    pub path: &'r str,
    /// The query as received, without `?`.
    pub query: Option<&'r str>,
    /// Where in the path the parameters of the route's template are.
    pub params: &'r Params,
}

impl Template {
    /// Reads a template of a route with this path.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(crate) fn parse(text: &str, pattern: &PathPattern) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (before, after) = rest.split_once('{').map_or((rest, None), |(b, a)| (b, Some(a)));
            if before.contains('}') {
                return Err("has a '}' without '{'".to_owned());
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            let Some(after) = after else { break };
            let (name, after) = after.split_once('}').ok_or("has a '{' without '}'")?;
            pieces.push(match name {
                "host" => Piece::Host,
                "path" => Piece::Path,
                "query" => Piece::Query,
                name => {
                    let index = pattern.names().position(|known| known == name);
                    Piece::Param(
                        index.ok_or_else(|| format!("has {{{name}}}, which the route's path does not"))?,
                    )
                }
            });
            rest = after;
        }
        Ok(Self { text: text.into(), pieces })
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
                pieces.next() == Some(&Piece::Host)
                    && match pieces.next() {
                        None | Some(Piece::Path) => true,
                        Some(Piece::Text(text)) => match text.strip_prefix(':') {
                            None => text.starts_with('/'),
                            // Behind a port that something else continued, all before it would be a user's name.
                            Some(rest) => match rest.split_once('/') {
                                Some((port, _)) => is_port(port),
                                None => {
                                    is_port(rest) && pieces.next().is_none_or(|next| *next == Piece::Path)
                                }
                            },
                        },
                        Some(_) => false,
                    }
            }
            None => pieces.next().is_none_or(|next| *next == Piece::Path),
        }
    }

    /// The text with everything put in.
    pub fn fill(&self, values: &TemplateValues<'_>) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Host => text.push_str(values.host),
                Piece::Path => text.push_str(values.path),
                Piece::Query => {
                    if let Some(query) = values.query {
                        text.push('?');
                        text.push_str(query);
                    }
                }
                Piece::Param(index) => {
                    let span = values.params.span(*index).unwrap_or_default();
                    text.push_str(values.path.get(span).unwrap_or_default());
                }
            }
        }
        text
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
            let values = TemplateValues { host: "a.test", path, query, params: &params };
            assert_eq!(parse(text).unwrap().fill(&values), expected, "{text}");
        }
        for text in ["/{nothing}", "/{", "/}", "/{id", "/{}", "/{{id}}"] {
            assert!(parse(text).is_err(), "{text}");
        }
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
