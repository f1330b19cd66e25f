//! The routes of one template: which of them takes a method, and in which order those with conditions are asked.

use std::cmp::Reverse;

use super::{Conditions, Method, Methods, RouteConflict};

/// The routes of one template. Numbers are indices of entries.
#[derive(Debug)]
pub(super) struct Leaf {
    /// By index in the table's methods: comparing with those few, which are at hand, beats following a pointer.
    pub(super) named: Box<[(usize, usize)]>,
    pub(super) all: Option<usize>,
    /// If one of the routes has conditions, all of them in the order in which they are asked, with the index of their method, if
    /// they name it; else nothing, and the fields above decide.
    pub(super) ordered: Box<[(Option<usize>, usize)]>,
    /// The methods, joined for the `Allow` field.
    pub(super) allow: Box<str>,
}

#[derive(Debug, Default)]
pub(super) struct GrowingLeaf {
    routes: Vec<GrowingRoute>,
}

#[derive(Debug)]
struct GrowingRoute {
    method: Option<Method>,
    conditions: Conditions,
    entry: usize,
}

impl GrowingLeaf {
    pub(super) fn add(
        &mut self,
        entry: usize,
        methods: &Methods,
        conditions: &Conditions,
        conflicts: &mut Vec<RouteConflict>,
    ) {
        match methods {
            Methods::All => self.add_one(entry, None, conditions, conflicts),
            Methods::Only(methods) => {
                methods.iter().for_each(|m| self.add_one(entry, Some(m), conditions, conflicts));
            }
        }
    }

    fn add_one(
        &mut self,
        entry: usize,
        method: Option<&Method>,
        conditions: &Conditions,
        conflicts: &mut Vec<RouteConflict>,
    ) {
        let mut others = self.routes.iter().filter(|other| other.method.as_ref() == method);
        // A route with fewer conditions is asked later, and one with as many in the order of the file. Of those before it only one
        // with as many can leave it nothing.
        let shadows = |other: &&GrowingRoute| {
            other.conditions.len() == conditions.len() && conditions.imply(&other.conditions)
        };
        match others.find(shadows) {
            // The same method twice in one route's list is the list's problem.
            Some(first) if first.entry == entry => {}
            Some(first) => {
                conflicts.push(RouteConflict { first: first.entry, second: entry, method: method.cloned() });
            }
            None => {
                self.routes.push(GrowingRoute {
                    method: method.cloned(),
                    conditions: conditions.clone(),
                    entry,
                });
            }
        }
    }

    pub(super) fn finish(mut self, methods: &mut Vec<Method>) -> Leaf {
        // Those that name the method first, then by number of conditions, then as they stand in the file; methods as the `Allow`
        // field shows them.
        self.routes.sort_by(|a, b| {
            let key = |route: &GrowingRoute| (route.method.is_none(), Reverse(route.conditions.len()));
            key(a).cmp(&key(b)).then_with(|| a.method.cmp(&b.method)).then(a.entry.cmp(&b.entry))
        });
        let mut named_methods: Vec<&Method> = self.routes.iter().filter_map(|r| r.method.as_ref()).collect();
        named_methods.sort();
        named_methods.dedup();
        let allow = named_methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
        let is_conditional = self.routes.iter().any(|route| !route.conditions.is_empty());
        let mut ordered = Vec::with_capacity(self.routes.len());
        for GrowingRoute { method, entry, .. } in self.routes {
            let method = method.map(|method| {
                methods.iter().position(|known| *known == method).unwrap_or_else(|| {
                    methods.push(method);
                    methods.len() - 1
                })
            });
            ordered.push((method, entry));
        }
        let named = ordered.iter().filter_map(|(method, entry)| Some(((*method)?, *entry))).collect();
        let all = ordered.iter().find(|(method, _)| method.is_none()).map(|(_, entry)| *entry);
        if !is_conditional {
            ordered.clear();
        }
        Leaf { named, all, ordered: ordered.into(), allow: allow.into() }
    }
}
