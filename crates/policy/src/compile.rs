//! From a policy set to a compiled policy: every guard in its order, on exactly the bytes that are loaded.
//!
//! Sizes, then the lexical scan, then the parser, then the checks of the tree, then regorus' own analysis; nothing is
//! evaluated before all have passed. A step whose input is broken is skipped, all others run, so that one run reports
//! as much as possible. Runs in the child process and again, with the same outcome, in the process that serves.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use regorus::{Engine, Rc, Value};

use crate::ast::{Module, Ref};
use crate::builtins::header;
use crate::cache::{Projection, trial};
use crate::cedar;
use crate::check::calls::Impure;
use crate::check::rules::{Rules, dotted};
use crate::check::{self as static_checks};
use crate::documents;
use crate::engine::CompiledPolicy;
use crate::input::shape::InputShape;
use crate::matcher;
use crate::problem::{Place, PolicyErrors, Problem, Report, Severity};
use crate::reads::Reads;
use crate::rego::{self, EngineReport, RegoPolicy};
use crate::scan;
use crate::set::{Language, PolicySet, Source, SourceKind};
use crate::smoke;
use crate::testing;

/// Compiles a policy set.
///
/// # Errors
///
/// Everything that is wrong with the set, with places.
pub fn compile(set: &PolicySet) -> Result<Arc<dyn CompiledPolicy>, PolicyErrors> {
    match set.language() {
        Language::Rego => Ok(Arc::new(Prepared::of(set)?.policy(set))),
        Language::Matcher => matcher::compile(set),
        Language::Cedar => cedar::compile(set),
    }
}

/// Compiles a policy set, tries it on an invented request and runs its tests.
///
/// # Errors
///
/// Everything that is wrong with the set; failed tests are among it.
pub fn check(set: &PolicySet) -> Result<Report, PolicyErrors> {
    match set.language() {
        Language::Rego => check_rego(set),
        Language::Matcher => matcher::check(set),
        Language::Cedar => cedar::check(set),
    }
}

fn check_rego(set: &PolicySet) -> Result<Report, PolicyErrors> {
    let prepared = Prepared::of(set)?;
    let mut problems = prepared.warnings.clone();
    let policy = prepared.policy(set);
    smoke::run(&policy, set, &prepared.deciding, &mut problems);
    if let Ok(projection) = &prepared.projection {
        let inputs = trial::inputs_of_tests(set, &prepared.modules, &prepared.data);
        trial::run(&policy, set.input(), projection, inputs, &mut problems);
    }
    let tests = testing::run_all(&prepared, set);
    for test in tests.failed() {
        problems.push(testing::problem(test));
    }
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(PolicyErrors::new(problems));
    }
    problems.sort();
    Ok(Report {
        warnings: problems,
        packages: prepared.packages,
        reads: prepared.reads.dotted(),
        impure: prepared.impure.keys().map(ToString::to_string).collect(),
        uncacheable: prepared.projection.err().unwrap_or_default(),
        mentions: Vec::new(),
        tests,
    })
}

/// A set that passed all static checks.
pub(crate) struct Prepared {
    /// Without the test files.
    pub(crate) engine: Engine,
    /// With the test files.
    pub(crate) with_tests: Engine,
    pub(crate) tests: Vec<testing::Found>,
    pub(crate) reads: Reads,
    /// All modules, those of tests too, and the data, for whoever looks at them again.
    pub(crate) modules: Vec<Ref<Module>>,
    pub(crate) data: Value,
    /// Where the deciding rule begins.
    deciding: Place,
    impure: Impure,
    projection: Result<Arc<Projection>, Vec<Problem>>,
    packages: Vec<String>,
    warnings: Vec<Problem>,
}

impl Prepared {
    pub(crate) fn of(set: &PolicySet) -> Result<Self, PolicyErrors> {
        if set.language() != Language::Rego {
            let help =
                "`ringward policy check` and `ringward check` look at other policies, and run their tests";
            let problem = Problem::error(&Place::default(), "only policies in Rego can be evaluated here");
            return Err(PolicyErrors::new(vec![problem.help(help)]));
        }
        let (mut problems, shape) = (Vec::new(), set.input());
        sizes(set, &mut problems);
        if has_errors(&problems) {
            return Err(PolicyErrors::new(problems));
        }
        let data = documents::load(set.sources(), &mut problems);
        let mut with_tests = rego::new_engine();
        for source in set.sources() {
            if matches!(source.kind(), Some(SourceKind::Policy | SourceKind::PolicyTest)) {
                parse(&mut with_tests, source, &mut problems);
            }
        }
        if has_errors(&problems) {
            // What follows looks at all modules together; with one missing it would report nonsense.
            return Err(PolicyErrors::new(problems));
        }
        let modules = with_tests.get_modules().clone();
        let of_request = |module: &&_| SourceKind::of(file_of(module)) == Some(SourceKind::Policy);
        let rules = Rules::collect(modules.iter().filter(of_request));
        let impure = static_checks::soundness(&rules, &data, &mut problems);
        if impure.is_some() {
            static_checks::meaning(&rules, &data, set.rule(), shape, &mut problems);
        }
        // Once more with the tests: those may use all rules, the rules none of theirs.
        let all_rules = Rules::collect(&modules);
        static_checks::soundness(&all_rules, &data, &mut problems);
        if has_errors(&problems) {
            return Err(PolicyErrors::new(problems));
        }
        let packages: BTreeSet<String> = rules.modules.iter().map(|names| dotted(&names.package)).collect();
        let reads = Reads::of(&rules, shape);
        let deciding = static_checks::entry::place_of(&rules, set.rule());
        let impure = impure.unwrap_or_default();
        let projection = Projection::of(&rules, shape, &reads, &impure).map(Arc::new);
        let tests = testing::find(&all_rules);
        provide_header(&mut with_tests, &all_rules, shape, &mut problems);
        let engine = load(set, &data, &rules, &mut problems);
        add_data(&mut with_tests, &data, &mut problems);
        prepare(&mut with_tests, set.rule(), &mut problems);
        drop(all_rules);
        drop(rules);
        match engine {
            Some(engine) if !has_errors(&problems) => Ok(Self {
                engine,
                with_tests,
                tests,
                reads,
                modules,
                data,
                projection,
                deciding,
                impure,
                packages: packages.into_iter().collect(),
                warnings: problems,
            }),
            _ => Err(PolicyErrors::new(problems)),
        }
    }

    #[cfg(test)]
    pub(crate) fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    #[cfg(test)]
    pub(crate) fn projection(&self) -> Result<&Arc<Projection>, &[Problem]> {
        self.projection.as_ref().map_err(Vec::as_slice)
    }

    pub(crate) fn policy(&self, set: &PolicySet) -> RegoPolicy {
        RegoPolicy::new(self.engine.clone(), self.reads.clone(), self.projection.clone(), set)
    }
}

fn file_of(module: &Ref<Module>) -> &str {
    module.package.span.source.file()
}

fn has_errors(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

fn sizes(set: &PolicySet, problems: &mut Vec<Problem>) {
    let limits = set.limits();
    if set.sources().len() > limits.files_max {
        let message = format!("policy has {} files, more than {}", set.sources().len(), limits.files_max);
        problems.push(Problem::error(&Place::default(), message).help("raise the limit or merge files"));
    }
    for (index, source) in set.sources().iter().enumerate() {
        let at = Place::file(&source.path);
        if index > 0 && set.sources()[index - 1].path == source.path {
            problems.push(Problem::error(&at, "file is given twice"));
        }
        let bytes_max = match source.kind() {
            Some(SourceKind::Policy | SourceKind::PolicyTest) => limits.policy_bytes_max,
            Some(SourceKind::Json | SourceKind::Yaml) => limits.data_bytes_max,
            None => {
                let help = "a policy holds *.rego, *.json, *.yaml and *.yml";
                problems.push(Problem::error(&at, "unknown kind of file").help(help));
                continue;
            }
        };
        if source.bytes.len() > bytes_max {
            let message = format!("file has {} bytes, more than {bytes_max}", source.bytes.len());
            problems.push(
                Problem::error(&at, message).help("move tables into data documents, or split the file"),
            );
        }
    }
}

/// Scans and parses one file into the engine.
fn parse(engine: &mut Engine, source: &Source, problems: &mut Vec<Problem>) {
    let text = match std::str::from_utf8(&source.bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = &source.bytes[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
            problems.push(Problem::error(&Place::new(&source.path, line, 1), "file is not UTF-8"));
            return;
        }
    };
    let found = scan::scan(&source.path, text);
    if !found.is_empty() {
        problems.extend(found);
        return;
    }
    let parsed = catch_unwind(AssertUnwindSafe(|| engine.add_policy(source.path.clone(), text.to_owned())));
    match parsed {
        Ok(Ok(_)) => {
            let module = engine.get_modules().last().expect("a module was just added");
            if module.target.is_some() {
                let at = Place::file(&source.path);
                problems.push(Problem::error(&at, "`__target__` is not Rego").help("remove it"));
            }
        }
        Ok(Err(error)) => problems.push(engine_problem(&source.path, &error.to_string())),
        Err(_) => problems.push(Problem::error(&Place::file(&source.path), "parser panicked on this file")),
    }
}

/// The engine that decides: the same modules without the tests.
fn load(set: &PolicySet, data: &Value, rules: &Rules<'_>, problems: &mut Vec<Problem>) -> Option<Engine> {
    let mut engine = rego::new_engine();
    for source in set.sources().iter().filter(|source| source.kind() == Some(SourceKind::Policy)) {
        parse(&mut engine, source, problems);
    }
    provide_header(&mut engine, rules, set.input(), problems);
    add_data(&mut engine, data, problems);
    prepare(&mut engine, set.rule(), problems).then_some(engine)
}

/// Gives `header` to the packages that call it.
fn provide_header(engine: &mut Engine, rules: &Rules<'_>, shape: InputShape, problems: &mut Vec<Problem>) {
    for (path, text) in header::modules(rules, shape) {
        if let Err(error) = engine.add_policy(path.clone(), text) {
            problems.push(engine_problem(&path, &error.to_string()));
        }
    }
}

fn add_data(engine: &mut Engine, data: &Value, problems: &mut Vec<Problem>) {
    if let Err(error) = engine.add_data(data.clone()) {
        problems.push(engine_problem("", &error.to_string()));
    }
}

/// Has regorus analyse the modules: scopes, order of statements, unsafe variables.
fn prepare(engine: &mut Engine, rule: &str, problems: &mut Vec<Problem>) -> bool {
    let rule: Rc<str> = rule.into();
    let prepared = catch_unwind(AssertUnwindSafe(|| engine.compile_with_entrypoint(&rule).map(drop)));
    match prepared {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => problems.push(engine_problem("", &error.to_string())),
        Err(_) => problems.push(Problem::error(&Place::default(), "the interpreter panicked on this policy")),
    }
    false
}

/// A problem from regorus' report; `file` where the report names none.
fn engine_problem(file: &str, text: &str) -> Problem {
    let report = EngineReport::parse(text);
    let at = match report.place {
        Some((file, line, column)) => Place::new(file, line, column),
        None => Place::file(file),
    };
    Problem::error(&at, report.message)
}

#[cfg(test)]
mod tests;
