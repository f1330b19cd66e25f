//! Which parts of the input a policy can read, from its text alone.
//!
//! Sound in one direction: a part that is not reported is read by no evaluation, so it need not be built, and need not be
//! part of a cache key. Whatever is not understood counts as a read of everything. Rego has no way to
//! reach the input but a reference that begins with `input` or with an import of it, and no evaluation of text.

use std::collections::BTreeMap;

use crate::ast::{Expr, Ref, Reference, Visit, place, walk_expr};
use crate::builtins::header;
use crate::check::rules::Rules;
use crate::input::shape::InputShape;
use crate::problem::Place;

/// A set of input paths; each stands for all that is below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// With the first place that reads each.
    paths: BTreeMap<Vec<String>, Place>,
}

impl Reads {
    /// What these rules can read of an input of this shape.
    pub(crate) fn of(rules: &Rules<'_>, shape: InputShape) -> Self {
        let mut walk = Walk { reads: Self::default(), rules, module: 0, shape };
        for (module, names) in rules.modules.iter().enumerate() {
            walk.module = module;
            // An import is no read yet, but every use of its name is. The interpreter refuses a second one of a name.
            let imports = names.module.imports.iter().map(|import| import.refr.as_ref());
            let is_plain = |import: &Expr| Reference::of(import).is_some_and(|reference| reference.complete);
            imports.filter(|import| !is_plain(import)).for_each(|import| {
                walk.reference(import);
            });
        }
        for definition in &rules.definitions {
            walk.module = definition.module;
            walk.rule(definition.rule);
        }
        walk.reads
    }

    /// What is read of the document at a path of this one, as reads of that document.
    pub(crate) fn below(&self, path: &[&str]) -> Self {
        let rest = |(read, at): (&Vec<String>, &Place)| {
            let meets = read.iter().zip(path).all(|(read, name)| read == name);
            meets.then(|| (read.get(path.len()..).unwrap_or_default().to_vec(), at.clone()))
        };
        Self { paths: self.paths.iter().filter_map(rest).collect() }
    }

    /// A read of the whole input.
    pub(crate) fn everything() -> Self {
        Self { paths: BTreeMap::from([(Vec::new(), Place::default())]) }
    }

    /// Reads of these paths, each with the first place that reads it.
    pub(crate) fn of_paths(paths: BTreeMap<Vec<String>, Place>) -> Self {
        Self { paths }
    }

    /// Reads of these paths, in dotted form.
    pub(crate) fn from_dotted(paths: &[&str]) -> Self {
        let names = |path: &&str| path.split('.').map(str::to_owned).collect();
        Self { paths: paths.iter().map(|path| (names(path), Place::default())).collect() }
    }

    /// Whether anything at, above or below the path can be read.
    pub(crate) fn may_read(&self, path: &[&str]) -> bool {
        self.paths.keys().any(|read| read.iter().zip(path).all(|(read, name)| read == name))
    }

    /// Whether the path, or something below it, is read by its name, and not only as a part of something larger.
    pub(crate) fn names(&self, path: &[&str]) -> bool {
        self.paths.keys().any(|read| read.len() >= path.len() && read.iter().zip(path).all(|(a, b)| a == b))
    }

    /// The paths without those that another covers, each with the first place that reads it.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&[String], &Place)> {
        let covered =
            |path: &Vec<String>| self.paths.keys().any(|other| other != path && path.starts_with(other));
        self.paths.iter().filter(move |(path, _)| !covered(path)).map(|(path, at)| (path.as_slice(), at))
    }

    /// The paths in dotted form, without those that another covers; `*` for the whole input.
    pub(crate) fn dotted(&self) -> Vec<String> {
        self.paths().map(|(path, _)| if path.is_empty() { "*".to_owned() } else { path.join(".") }).collect()
    }
}

/// Finds all references into the input.
struct Walk<'a> {
    reads: Reads,
    rules: &'a Rules<'a>,
    module: usize,
    shape: InputShape,
}

impl Walk<'_> {
    /// `header("x-a")` reads that field, `header(name)` all of them. A function of that name in the policy is taken for
    /// it, too.
    fn header(&mut self, at: Place, params: &[Ref<Expr>]) {
        let mut path: Vec<String> = self.shape.headers().iter().map(ToString::to_string).collect();
        if let Some(Expr::String { value, .. } | Expr::RawString { value, .. }) =
            params.first().map(AsRef::as_ref)
            && let Ok(name) = value.as_string()
        {
            path.push(name.to_ascii_lowercase());
        }
        self.reads.paths.entry(path).or_insert(at);
    }

    /// Records a reference if it is one into the input; its indices are the caller's.
    fn reference(&mut self, expr: &Expr) -> Option<()> {
        let reference = Reference::of(expr)?;
        let names = reference.names.iter().map(ToString::to_string);
        let imported = self.rules.import(self.module, reference.root).and_then(|target| target.split_first());
        // A variable of that name in the rule would be something else: one read too many then, which does no harm.
        let path: Option<Vec<String>> = match imported {
            _ if reference.root == "input" => Some(names.collect()),
            Some((root, target)) if root.as_ref() == "input" => {
                Some(target.iter().map(ToString::to_string).chain(names).collect())
            }
            _ => None,
        };
        self.reads.paths.entry(path?).or_insert_with(|| place(expr.span()));
        Some(())
    }
}

impl Visit for Walk<'_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                // What stands in brackets is read on its own, also when the reference itself is understood.
                match Reference::of(expr) {
                    Some(reference) => {
                        let indices = reference.indices;
                        let _ = self.reference(expr);
                        indices.into_iter().for_each(|index| self.expr(index));
                    }
                    None => walk_expr(self, expr),
                }
            }
            Expr::Call { fcn, params, .. } => {
                if matches!(fcn.as_ref(), Expr::Var { span, .. } if span.text() == header::NAME) {
                    self.header(place(expr.span()), params);
                }
                walk_expr(self, expr);
            }
            _ => walk_expr(self, expr),
        }
    }
}

#[cfg(test)]
mod tests {
    use regorus::Engine;

    use super::*;

    fn reads_of(modules: &[&str]) -> Reads {
        let mut engine = Engine::new();
        for (index, text) in modules.iter().enumerate() {
            engine.add_policy(format!("{index}.rego"), (*text).to_owned()).unwrap();
        }
        Reads::of(&Rules::collect(engine.get_modules()), InputShape::Native)
    }

    #[test]
    fn literal_paths_are_recorded() {
        let reads = reads_of(&[
            "package p\nallow if {\n input.request.path == \"/x\"\n input[\"client\"].spiffe_id == `y`\n}",
        ]);
        assert_eq!(reads.dotted(), ["client.spiffe_id", "request.path"]);
        assert!(reads.may_read(&["request", "path"]) && reads.may_read(&["request"]) && reads.may_read(&[]));
        assert!(!reads.may_read(&["request", "headers"]) && !reads.may_read(&["time"]));
    }

    /// Each form reads the headers, in a way that has to be found.
    #[test]
    fn every_way_to_the_headers_is_found() {
        for body in [
            "input.request.headers.cookie == \"x\"",
            "input.request[\"headers\"][\"cookie\"] == \"x\"",
            "input.request[`headers`].cookie == \"x\"",
            "input[\"request\"].headers[_] == \"x\"",
            "some name; input.request[name].cookie == \"x\"",
            "some part; input[part].headers.cookie == \"x\"",
            "some value in input.request.headers; value == \"x\"",
            "every value in input.request.headers { value == \"x\" }",
            "x := input; x.request.headers.cookie == \"x\"",
            "x := input.request; x.headers.cookie == \"x\"",
            "[x, _] := [input, 1]; x.request.headers.cookie == \"x\"",
            "x := {\"a\": input}; x.a.request.headers.cookie == \"x\"",
            "count([h | some h in input.request.headers]) == 1",
            "count({h | h := input.request[_]}) == 1",
            "count({k: v | some k, v in input.request}) == 1",
            "walk(input, [[\"request\", \"headers\", \"cookie\"], \"x\"])",
            "object.get(input, [\"request\", \"headers\", \"cookie\"], \"\") == \"x\"",
            "json.filter(input, [\"request/headers\"]) == {}",
            "f(input)",
            "f(input.request)",
            "data.other.table[input.request.headers.cookie]",
            "data.other[input.request.headers.cookie].x == 1",
            "concat(\"\", [input.request.headers.cookie])[0] == \"x\"",
            "[1, 2][input.request.headers.cookie]",
            "input.request.path == \"/\" with input.request.method as input.request.headers.cookie",
            "g with input as input",
            "not input.request.headers.cookie",
            "input.request.method in input.request.headers",
            "\"x\" in input.request.headers",
            "-1 < count(input.request.headers)",
            "header(\"cookie\") == \"x\"",
            "header(\"Cookie\") == \"x\"",
            "some name; header(name) == \"x\"",
            "not header(`cookie`)",
            "g with input.request.path as header(\"cookie\")",
            "count([h | h := header(\"cookie\")]) == 1",
            "header(\"cookie\", x)",
            "sprintf(\"%v\", [input]) == \"x\"",
        ] {
            let module = format!("package p\nf(x) if x.request\ng := 1\nallow if {{ {body} }}");
            assert!(reads_of(&[&module]).may_read(&["request", "headers"]), "{body}");
        }
        for module in [
            "package p\nimport input.request\nallow if request.headers.cookie == \"x\"",
            "package p\nimport input.request as r\nallow if r.headers.cookie == \"x\"",
            "package p\nimport input as i\nallow if i.request.headers.cookie == \"x\"",
            "package p\nimport input[\"request\"].headers as h\nallow if h.cookie == \"x\"",
            "package p\nallow := input.request.headers.cookie",
            "package p\nallow := false if false else := input.request.headers.cookie",
            "package p\nr[input.request.headers.cookie] := 1 if true",
            "package p\nr contains input.request.headers.cookie if true",
            "package p\nr[input.request.headers.cookie].x := 1 if true",
            "package p\nf(input.request.headers.cookie) := 1",
            "package p\ndefault x := {h | h := input.request.headers}",
        ] {
            assert!(reads_of(&[module]).may_read(&["request", "headers"]), "{module}");
        }
        assert!(reads_of(&["package p\nx := 1", "package q\nx := input"]).may_read(&["request", "headers"]));
    }

    #[test]
    fn what_is_imported_is_read_where_it_is_used() {
        for (module, expected) in [
            ("import input.request\nallow if request.path == \"/\"", "request.path"),
            ("import input.request as r\nallow if r.headers.a == \"1\"", "request.headers.a"),
            ("import input as i\nallow if i.request.path == \"/\"", "request.path"),
            ("import input[\"request\"].headers\nallow if headers[data.x] == \"1\"", "request.headers"),
            ("import input.request\nallow if count(request) > 1", "request"),
            ("import input.request\nallow if request[data.x]", "request"),
            ("import input.request\nallow if f(request)\nf(x) if x.path", "request"),
            (
                "import input.request\nallow if { some name; request.headers[name] == \"1\" }",
                "request.headers",
            ),
        ] {
            assert_eq!(reads_of(&[&format!("package p\n{module}")]).dotted().join(" "), expected, "{module}");
        }
        // The import of one module says nothing about the names in another.
        let modules = [
            "package p\nimport input.client as request\nx := 1",
            "package q\nallow if request.path\nrequest := 1",
        ];
        assert_eq!(reads_of(&modules).dotted(), [""; 0]);
    }

    #[test]
    fn a_header_by_literal_name_is_read_alone() {
        let reads = reads_of(&["package p\nallow if header(\"X-Role\") == \"admin\""]);
        assert_eq!(reads.dotted(), ["request.headers.x-role"]);
        assert!(!reads.may_read(&["request", "headers", "cookie"]));
        assert_eq!(
            reads_of(&["package p\nallow if header(data.name) == \"\""]).dotted(),
            ["request.headers"]
        );
        assert_eq!(reads_of(&["package p\nallow if data.header == 1"]).dotted(), [""; 0]);
    }

    #[test]
    fn what_only_looks_like_a_read_is_none() {
        for body in [
            "data.input.request.headers == 1",
            "x := {\"input\": {\"request\": 1}}; x.input.request == 1",
            "\"input.request.headers\" == input.request.path",
            "g with input.request.headers as {}",
            "# input.request.headers\ntrue",
        ] {
            let module = format!("package p\ng := 1\nallow if {{ {body} }}");
            assert!(!reads_of(&[&module]).may_read(&["request", "headers"]), "{body}");
        }
    }
}
