//! The tree of segments behind [`Routes`](super::Routes): which template takes a path.
//!
//! Hides the order of the search and the layout. A search of a large table is bound by memory, not by comparisons, so
//! the finished tree lies in a few flat arrays, in which the nodes of one template follow each other. Knows nothing of
//! methods.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;

use crate::path::{Params, PathPattern, Segment, next_segment, segment_end};

/// A tree that templates can be added to.
#[derive(Debug)]
pub(super) struct TreeBuilder {
    nodes: Vec<Growing>,
    templates: u32,
}

#[derive(Debug, Default)]
struct Growing {
    literals: BTreeMap<Box<str>, Number>,
    param: Option<Number>,
    rest: Option<Number>,
    end: Option<Number>,
}

/// The index of a node; none points at the root. Or the number of a template, counted from 1. So an absent one takes
/// no room, and a node of the finished tree a third of a cache line.
type Number = NonZeroU32;

impl TreeBuilder {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Growing::default()], templates: 0 }
    }

    /// Adds a template and gives its number: those of templates that differ in the names of parameters only are equal,
    /// others count up from 0.
    pub(super) fn add(&mut self, pattern: &PathPattern) -> usize {
        let mut at = 0;
        for segment in pattern.segments() {
            let node = &mut self.nodes[at];
            let child = match segment {
                Segment::Literal(text) => node.literals.get(text).copied(),
                Segment::Param(_) => node.param,
                Segment::Rest(_) => return number(&mut node.rest, &mut self.templates),
            };
            at = child.unwrap_or_else(|| self.grow(at, segment)).get() as usize;
        }
        number(&mut self.nodes[at].end, &mut self.templates)
    }

    fn grow(&mut self, at: usize, segment: &Segment) -> Number {
        let child = Number::new(index(self.nodes.len())).expect("the root was there first");
        self.nodes.push(Growing::default());
        match segment {
            Segment::Literal(text) => drop(self.nodes[at].literals.insert(text.clone(), child)),
            Segment::Param(_) | Segment::Rest(_) => self.nodes[at].param = Some(child),
        }
        child
    }

    pub(super) fn finish(self) -> Tree {
        let mut tree = Tree { nodes: Vec::new(), edges: Vec::new(), text: String::new(), tables: Vec::new() };
        for node in self.nodes {
            let literals = if node.literals.len() > FEW_CHILDREN_MAX {
                tree.tables.push(node.literals.into_iter().collect());
                Literals::Many { table: index(tree.tables.len() - 1) }
            } else {
                let first = index(tree.edges.len());
                for (text, child) in &node.literals {
                    tree.edges.push(Edge {
                        text: index(tree.text.len()),
                        len: index(text.len()),
                        child: *child,
                    });
                    tree.text.push_str(text);
                }
                Literals::Few {
                    first,
                    count: u8::try_from(node.literals.len()).expect("few are less than 256"),
                }
            };
            tree.nodes.push(Node { literals, param: node.param, rest: node.rest, end: node.end });
        }
        tree
    }
}

fn number(template: &mut Option<Number>, templates: &mut u32) -> usize {
    let number = *template.get_or_insert_with(|| {
        *templates += 1;
        Number::new(*templates).expect("it was counted up")
    });
    number.get() as usize - 1
}

fn index(position: usize) -> u32 {
    u32::try_from(position).expect("a configuration file is far smaller than 4 GiB")
}

/// A tree that can be searched. Numbers are indices into its arrays; the root is the first node.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// The literals of the edges, one after the other.
    text: String,
    tables: Vec<HashMap<Box<str>, Number>>,
}

/// A place between two segments.
#[derive(Debug)]
struct Node {
    literals: Literals,
    /// The child behind `{name}`.
    param: Option<Number>,
    /// The template that ends here with `{rest...}`.
    rest: Option<Number>,
    /// The template that ends here.
    end: Option<Number>,
}

/// Children behind literals: a few are compared one by one, many are hashed. The keys come from the configuration, so a
/// client cannot crowd a bucket.
#[derive(Debug, Clone, Copy)]
enum Literals {
    Few { first: u32, count: u8 },
    Many { table: u32 },
}

#[derive(Debug)]
struct Edge {
    text: u32,
    len: u32,
    child: Number,
}

impl Tree {
    /// The number of the most specific template that takes the path, with its parameters. Allocates nothing.
    pub(super) fn find(&self, path: &str) -> Option<(usize, Params)> {
        let mut params = Params::default();
        let start = path.starts_with('/').then_some(1)?;
        let template = self.descend(0, path, Some(start), &mut params)?;
        Some((template.get() as usize - 1, params))
    }

    /// From a node on, with `at` the start of the next segment, if there is one. Depth is bounded by the longest
    /// template, 64 segments, since it goes on only where the tree does.
    fn descend(&self, node: u32, path: &str, at: Option<usize>, params: &mut Params) -> Option<Number> {
        let node = &self.nodes[node as usize];
        let Some(start) = at else { return node.end };
        let end = segment_end(path, start);
        let next = next_segment(path, end);
        if let Some(child) = self.literal_child(node.literals, &path[start..end])
            && let Some(template) = self.descend(child.get(), path, next, params)
        {
            return Some(template);
        }
        if let Some(child) = node.param.filter(|_| start < end) {
            let before = params.len();
            params.push(start, end);
            if let Some(template) = self.descend(child.get(), path, next, params) {
                return Some(template);
            }
            params.truncate(before);
        }
        let template = node.rest?;
        params.push(start, path.len());
        Some(template)
    }

    fn literal_child(&self, literals: Literals, segment: &str) -> Option<Number> {
        match literals {
            Literals::Few { first, count } => {
                let edges = &self.edges[first as usize..][..count as usize];
                let text = self.text.as_bytes();
                let same =
                    |edge: &&Edge| &text[edge.text as usize..][..edge.len as usize] == segment.as_bytes();
                edges.iter().find(same).map(|edge| edge.child)
            }
            Literals::Many { table } => self.tables[table as usize].get(segment).copied(),
        }
    }
}

/// Up to here comparing is faster than hashing.
const FEW_CHILDREN_MAX: usize = 8;
