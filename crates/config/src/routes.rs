//! Which route a request takes: a table of paths, methods and conditions, searched by normalised path, method, and what the
//! request is otherwise.
//!
//! Hides a tree of segments (`tree`) and the order of the search, which is total:
//! 1. The path. Segment by segment from the left, a literal comes before `{name}`, and `{name}` before `{rest...}`. The first
//!    template in this order that takes the whole path decides; where none does, the first regular expression of the file.
//! 2. The method: of the routes of this template, one that names it comes before one for all methods.
//! 3. The conditions (`condition`): a route with more of them comes before one with fewer, and of two with as many the one that
//!    stands first in the file. The first whose conditions are met is it.
//!
//! The search never goes on to a less specific template because of the method or a condition: otherwise an unexpected method, or a
//! header field left away, would lead from a protected path to the catch-all route and its laxer policy.
//!
//! A search allocates nothing, and visits no node of the tree twice, whatever the path is.

pub(crate) mod condition;
mod leaf;
mod tree;

use std::fmt;

use self::condition::Conditions;
use self::leaf::{GrowingLeaf, Leaf};
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
    /// By number of the template; those of regular expressions follow.
    leaves: Vec<Leaf>,
    /// Regular expressions in the order of the file, each as an entry that has it, with its leaf.
    regexes: Vec<(usize, usize)>,
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
    /// The path and the method are known, but no route's conditions are met: 404.
    Unmet,
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

/// What a route takes.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// The paths.
    pub path: PathPattern,
    /// The methods.
    pub methods: Methods,
    /// What else a request has to be.
    pub conditions: Conditions,
}

impl RouteMatch {
    /// Every request of these methods for these paths.
    pub fn new(path: PathPattern, methods: Methods) -> Self {
        Self { path, methods, conditions: Conditions::default() }
    }
}

impl<T> Routes<T> {
    /// Builds a table.
    ///
    /// # Errors
    /// All routes that could never be reached, since an earlier one takes the same method and an equal template and asks nothing
    /// that the later one does not. Templates are equal if they differ in nothing but the names of parameters.
    pub fn build(routes: impl IntoIterator<Item = (RouteMatch, T)>) -> Result<Self, Vec<RouteConflict>> {
        let mut tree = TreeBuilder::new();
        let mut entries: Vec<Entry<T>> = Vec::new();
        let mut leaves: Vec<GrowingLeaf> = Vec::new();
        let mut regexes: Vec<(usize, GrowingLeaf)> = Vec::new();
        let mut conflicts = Vec::new();
        for (RouteMatch { path, methods, conditions }, route) in routes {
            let leaf = if path.regex().is_some() {
                let known = regexes.iter().position(|(first, _)| entries[*first].pattern == path);
                let place = known.unwrap_or_else(|| {
                    regexes.push((entries.len(), GrowingLeaf::default()));
                    regexes.len() - 1
                });
                &mut regexes[place].1
            } else {
                let template = tree.add(&path);
                if template == leaves.len() {
                    leaves.push(GrowingLeaf::default());
                }
                &mut leaves[template]
            };
            leaf.add(entries.len(), &methods, &conditions, &mut conflicts);
            entries.push(Entry { pattern: path, conditions, route });
        }
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let mut methods = Vec::new();
        let mut leaves: Vec<Leaf> = leaves.into_iter().map(|leaf| leaf.finish(&mut methods)).collect();
        let mut placed = Vec::with_capacity(regexes.len());
        for (first, leaf) in regexes {
            placed.push((first, leaves.len()));
            leaves.push(leaf.finish(&mut methods));
        }
        Ok(Self { entries, tree: tree.finish(), leaves, regexes: placed, methods })
    }

    /// The route of a request. `path` is the normalised path; `method` is compared as it is; `meets` says whether the request meets
    /// conditions, and is asked only about those of routes that take its path and method.
    pub fn find(&self, method: &str, path: &str, meets: impl Fn(&Conditions) -> bool) -> Lookup<'_, T> {
        let Some((leaf, params)) = self.tree.find(path).or_else(|| self.by_regex(path)) else {
            return Lookup::NotFound;
        };
        let leaf = &self.leaves[leaf];
        let found = if leaf.ordered.is_empty() {
            let named = leaf.named.iter().find(|(known, _)| self.methods[*known].as_str() == method);
            named.map(|(_, entry)| *entry).or(leaf.all)
        } else {
            let takes =
                |known: Option<usize>| known.is_none_or(|known| self.methods[known].as_str() == method);
            let mut taking = leaf.ordered.iter().filter(|(known, _)| takes(*known)).peekable();
            let is_known = taking.peek().is_some();
            let found = taking.find(|(_, entry)| {
                let conditions = &self.entries[*entry].conditions;
                conditions.is_empty() || meets(conditions)
            });
            if is_known && found.is_none() {
                return Lookup::Unmet;
            }
            found.map(|(_, entry)| *entry)
        };
        match found {
            Some(entry) => {
                let Entry { pattern, route, .. } = &self.entries[entry];
                Lookup::Found { route, pattern, params }
            }
            None => Lookup::MethodNotAllowed { allow: &leaf.allow },
        }
    }

    fn by_regex(&self, path: &str) -> Option<(usize, Params)> {
        let matches = |(entry, _): &&(usize, usize)| self.entries[*entry].pattern.matches(path).is_some();
        self.regexes.iter().find(matches).map(|(_, leaf)| (*leaf, Params::default()))
    }

    /// Pairs of routes of one template that take the same method, the first of which has conditions: who does not meet them may
    /// come to the second. In the order of the search.
    pub(crate) fn alternatives(&self) -> Vec<(&T, &T)> {
        let mut pairs = Vec::new();
        for leaf in &self.leaves {
            for (index, (method, first)) in leaf.ordered.iter().enumerate() {
                if self.entries[*first].conditions.is_empty() {
                    continue;
                }
                let later = leaf.ordered[index + 1..].iter();
                let takes_it = |(other, second): &&(Option<usize>, usize)| {
                    first != second && (other.is_none() || other == method)
                };
                let pair = |second: usize| (&self.entries[*first].route, &self.entries[second].route);
                pairs.extend(later.filter(takes_it).map(|(_, second)| pair(*second)));
            }
        }
        pairs
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
    conditions: Conditions,
    route: T,
}

/// The longest registered method has 17 bytes (`UPDATEREDIRECTREF`).
const METHOD_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests;
