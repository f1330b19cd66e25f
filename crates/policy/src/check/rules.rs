//! The rules of all modules by path, and what a name in one of them means.

use std::collections::BTreeMap;

use regorus::Rc;

use crate::ast::{Expr, Module, Ref, Reference, Rule, RuleHead, Span, head_of, place};
use crate::builtins::catalogue::{self, Builtin};
use crate::problem::Place;

/// Components of a full name: `["data", "ringward", "authz", "allow"]`.
pub(crate) type Path = Vec<Rc<str>>;

/// One rule.
pub(crate) struct Definition<'a> {
    pub(crate) path: Path,
    pub(crate) kind: Kind,
    pub(crate) rule: &'a Rule,
    /// Index into [`Rules::modules`].
    pub(crate) module: usize,
    pub(crate) head: &'a Span,
}

impl Definition<'_> {
    pub(crate) fn place(&self) -> Place {
        place(self.head)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Complete,
    Default,
    PartialSet,
    PartialObject,
    Function { arity: usize },
}

/// One module with what its names mean.
pub(crate) struct ModuleNames<'a> {
    pub(crate) package: Path,
    pub(crate) module: &'a Module,
    imports: BTreeMap<Rc<str>, Path>,
}

/// The modules of a policy set, with or without those of its tests.
pub(crate) struct Rules<'a> {
    pub(crate) modules: Vec<ModuleNames<'a>>,
    pub(crate) definitions: Vec<Definition<'a>>,
    by_path: BTreeMap<Path, Vec<usize>>,
}

/// What a call calls.
pub(crate) enum Callee {
    Function { path: Path, arity: usize },
    Builtin(&'static Builtin),
    Unknown(String),
}

impl<'a> Rules<'a> {
    /// Collects the rules of `modules`.
    pub(crate) fn collect(modules: impl IntoIterator<Item = &'a Ref<Module>>) -> Self {
        let mut rules = Self { modules: Vec::new(), definitions: Vec::new(), by_path: BTreeMap::new() };
        for (index, module) in modules.into_iter().enumerate() {
            let package = package_path(module);
            for rule in &module.policy {
                rules.define(index, &package, rule);
            }
            let imports = module.imports.iter().filter_map(|import| {
                let target = full_path(&Reference::of(&import.refr)?);
                let alias = import.r#as.as_ref().map(|alias| Rc::from(alias.text()));
                Some((alias.or_else(|| target.last().cloned())?, target))
            });
            rules.modules.push(ModuleNames { package, module, imports: imports.collect() });
        }
        rules
    }

    fn define(&mut self, module: usize, package: &[Rc<str>], rule: &'a Rule) {
        let head = head_of(rule);
        let Some(reference) = Reference::of(head) else { return };
        let kind = match rule {
            Rule::Default { args, .. } if !args.is_empty() => Kind::Function { arity: args.len() },
            Rule::Default { .. } => Kind::Default,
            Rule::Spec { head: RuleHead::Func { args, .. }, .. } => Kind::Function { arity: args.len() },
            Rule::Spec { head: RuleHead::Set { .. }, .. } => Kind::PartialSet,
            Rule::Spec { .. } if reference.complete => Kind::Complete,
            Rule::Spec { .. } => Kind::PartialObject,
        };
        let path: Path = package.iter().cloned().chain(full_path(&reference)).collect();
        self.by_path.entry(path.clone()).or_default().push(self.definitions.len());
        self.definitions.push(Definition { path, kind, rule, module, head: head.span() });
    }

    /// The rules of exactly this path.
    pub(crate) fn at(&self, path: &[Rc<str>]) -> impl Iterator<Item = &Definition<'a>> {
        self.by_path.get(path).into_iter().flatten().map(|&index| &self.definitions[index])
    }

    /// The paths of rules that begin with `prefix`, itself included.
    pub(crate) fn below<'s>(&'s self, prefix: &'s [Rc<str>]) -> impl Iterator<Item = &'s Path> {
        self.by_path
            .range(prefix.to_vec()..)
            .map(|(path, _)| path)
            .take_while(move |path| path.starts_with(prefix))
    }

    /// Whether rules of this package begin with the name.
    pub(crate) fn defines(&self, package: &[Rc<str>], name: &str) -> bool {
        let path: Path = package.iter().cloned().chain([Rc::from(name)]).collect();
        self.below(&path).next().is_some()
    }

    /// What an import of the module stands for.
    pub(crate) fn import(&self, module: usize, alias: &str) -> Option<&Path> {
        self.modules[module].imports.get(alias)
    }

    /// What a call in the module calls. The order is the interpreter's: imports, own package, full path, builtins.
    pub(crate) fn callee(&self, module: usize, function: &Expr) -> Callee {
        let Some(reference) = Reference::of(function).filter(|reference| reference.complete) else {
            return Callee::Unknown(function.span().text().to_owned());
        };
        let written = full_path(&reference);
        let imported = self.import(module, reference.root).map(|target| {
            let rest = reference.names.iter().cloned();
            target.iter().cloned().chain(rest).collect::<Path>()
        });
        let own =
            || self.modules[module].package.iter().cloned().chain(written.iter().cloned()).collect::<Path>();
        let candidates = [imported, (reference.root != "data").then(own), Some(written.clone())];
        for path in candidates.into_iter().flatten() {
            let arity = self.at(&path).find_map(|definition| match definition.kind {
                Kind::Function { arity } => Some(arity),
                _ => None,
            });
            if let Some(arity) = arity {
                return Callee::Function { path, arity };
            }
        }
        let name = reference.dotted();
        catalogue::allowed(&name).map_or(Callee::Unknown(name), Callee::Builtin)
    }
}

/// `data` and the components of the module's package.
pub(crate) fn package_path(module: &Module) -> Path {
    let package = Reference::of(&module.package.refr);
    [Rc::from("data")].into_iter().chain(package.iter().flat_map(full_path)).collect()
}

fn full_path(reference: &Reference<'_>) -> Path {
    [Rc::from(reference.root)].into_iter().chain(reference.names.iter().cloned()).collect()
}

/// A path as it is written.
pub(crate) fn dotted(path: &[Rc<str>]) -> String {
    path.join(".")
}
