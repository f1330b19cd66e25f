//! Which route a request takes: a table of path templates and methods, searched by method and normalised path.
//!
//! Hides a tree of segments (`tree`) and the order of the search. The search follows one total order of specificity: segment by segment from the left, a
//! literal comes before `{name}`, and `{name}` before `{rest...}`. The first template in this order that takes the
//! whole path decides; only then the method is looked at, a route that names it before a route for all methods.
//! The search never falls back to a less specific template because of the method: otherwise an unexpected method on a
//! protected path would reach the catch-all route, and its laxer policy.
//!
//! A search allocates nothing, and visits no node of the tree twice, whatever the path is.

mod tree;

use std::fmt;

use self::tree::{Tree, TreeBuilder};
use crate::path::{Params, PathPattern};

/// An HTTP method: a token in capitals, such as `GET`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(Box<str>);

impl Method {
    /// Reads a method. Methods are case-sensitive (RFC 9110 §9.1) and all registered ones are in capitals, so anything
    /// else is a slip. `CONNECT` has no path that a route could match.
    ///
    /// # Errors
    /// [`MethodError`] says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, MethodError> {
        // RFC 9110 §5.6.2, without the lower-case letters.
        let token = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.is_empty() || text.len() > METHOD_BYTES_MAX || !text.bytes().all(token) || text == "*" {
            return Err(MethodError::NotAMethod(text.chars().take(METHOD_BYTES_MAX).collect()));
        }
        if text == "CONNECT" {
            return Err(MethodError::Connect);
        }
        Ok(Self(text.into()))
    }

    /// The method.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a method that a route can name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// Not a token in capitals, or longer than 32 bytes.
    #[error("{0:?} is not a method: methods are words in capitals, such as \"GET\"")]
    NotAMethod(String),
    /// `CONNECT` asks for a tunnel to an authority and has no path (RFC 9110 §9.3.6).
    #[error("\"CONNECT\" has no path, so no route can match it")]
    Connect,
}

/// The methods that a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    /// All of them.
    All,
    /// These, at least one.
    Only(Vec<Method>),
}

/// A table of routes that cannot change any more.
#[derive(Debug)]
pub struct Routes<T> {
    entries: Vec<Entry<T>>,
    tree: Tree,
    /// By number of the template.
    leaves: Vec<Leaf>,
    /// Every method that a route names, once.
    methods: Vec<Method>,
}

/// The answer of [`Routes::find`].
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'t, T> {
    /// The route, and what the parameters of its template stand for.
    Found {
        /// What was put into the table.
        route: &'t T,
        /// The route's template, which knows the names of the parameters.
        pattern: &'t PathPattern,
        /// Where in the path their values are.
        params: Params,
    },
    /// The path is known, the method is not: 405.
    MethodNotAllowed {
        /// The methods that are, as the `Allow` field needs them (RFC 9110 §10.2.1).
        allow: &'t str,
    },
    /// No template takes the path: 404.
    NotFound,
}

/// Two routes that would take the same requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConflict {
    /// The index of the route that came first.
    pub first: usize,
    /// The index of the route that can never be reached.
    pub second: usize,
    /// The method that both take; none if both take all.
    pub method: Option<Method>,
}

impl<T> Routes<T> {
    /// Builds a table.
    ///
    /// # Errors
    /// All routes that could never be reached, since an earlier one takes the same method and an equal template. Templates
    /// are equal if they differ in nothing but the names of parameters.
    pub fn build(
        routes: impl IntoIterator<Item = (PathPattern, Methods, T)>,
    ) -> Result<Self, Vec<RouteConflict>> {
        let mut tree = TreeBuilder::new();
        let mut entries = Vec::new();
        let mut leaves: Vec<GrowingLeaf> = Vec::new();
        let mut conflicts = Vec::new();
        for (pattern, methods, route) in routes {
            let template = tree.add(&pattern);
            if template == leaves.len() {
                leaves.push(GrowingLeaf::default());
            }
            leaves[template].add(entries.len(), &methods, &mut conflicts);
            entries.push(Entry { pattern, route });
        }
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let mut methods = Vec::new();
        let leaves = leaves.into_iter().map(|leaf| leaf.finish(&mut methods)).collect();
        Ok(Self { entries, tree: tree.finish(), leaves, methods })
    }

    /// The route of a request. `path` is the normalised path; `method` is compared as it is.
    pub fn find(&self, method: &str, path: &str) -> Lookup<'_, T> {
        let Some((template, params)) = self.tree.find(path) else { return Lookup::NotFound };
        let leaf = &self.leaves[template];
        let named = leaf.named.iter().find(|(known, _)| self.methods[*known].as_str() == method);
        match named.map(|(_, entry)| *entry).or(leaf.all) {
            Some(entry) => {
                let Entry { pattern, route } = &self.entries[entry];
                Lookup::Found { route, pattern, params }
            }
            None => Lookup::MethodNotAllowed { allow: &leaf.allow },
        }
    }

    /// What was put into the table, in that order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|entry| &entry.route)
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none, so that every request is answered with 404.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[derive(Debug)]
struct Entry<T> {
    pattern: PathPattern,
    route: T,
}

/// The routes of one template. Numbers are indices of entries.
#[derive(Debug)]
struct Leaf {
    /// By index in [`Routes::methods`]: comparing with those few, which are at hand, beats following a pointer.
    named: Box<[(usize, usize)]>,
    all: Option<usize>,
    /// The methods, joined for the `Allow` field.
    allow: Box<str>,
}

#[derive(Debug, Default)]
struct GrowingLeaf {
    by_method: Vec<(Method, usize)>,
    all: Option<usize>,
}

impl GrowingLeaf {
    fn add(&mut self, entry: usize, methods: &Methods, conflicts: &mut Vec<RouteConflict>) {
        match methods {
            Methods::All => match self.all {
                Some(first) => conflicts.push(RouteConflict { first, second: entry, method: None }),
                None => self.all = Some(entry),
            },
            Methods::Only(methods) => {
                for method in methods {
                    match self.by_method.iter().find(|(known, _)| known == method) {
                        // The same method twice in one route's list is the list's problem.
                        Some((_, first)) if *first == entry => {}
                        Some((_, first)) => conflicts.push(RouteConflict {
                            first: *first,
                            second: entry,
                            method: Some(method.clone()),
                        }),
                        None => self.by_method.push((method.clone(), entry)),
                    }
                }
            }
        }
    }

    fn finish(mut self, methods: &mut Vec<Method>) -> Leaf {
        self.by_method.sort();
        let allow = self.by_method.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", ");
        let mut named = Vec::with_capacity(self.by_method.len());
        for (method, entry) in self.by_method {
            let known = methods.iter().position(|known| *known == method).unwrap_or_else(|| {
                methods.push(method);
                methods.len() - 1
            });
            named.push((known, entry));
        }
        Leaf { named: named.into(), all: self.all, allow: allow.into() }
    }
}

/// The longest registered method has 17 bytes (`UPDATEREDIRECTREF`).
const METHOD_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests;
