//! Reading regorus' syntax tree: walking it, and turning references into paths.
//!
//! With `check` and `reads`, which build on it, this is all that knows the tree. regorus calls the tree unstable, which
//! the exact version pin answers: an update has to compile here, and a kind of expression that is unknown does not.

use regorus::Rc;
pub(crate) use regorus::unstable::{
    ArithOp, AssignOp, BoolOp, Expr, Literal, LiteralStmt, Module, Query, Ref, Rule, RuleHead, Span,
};

use crate::problem::Place;

/// Where a span begins. Line and column of the span itself are those of the last token of a reference or call.
pub(crate) fn place(span: &Span) -> Place {
    let before = span.source.contents().get(..span.start as usize).unwrap_or("");
    let line = before.rsplit('\n').next().unwrap_or("");
    let lines = before.bytes().filter(|byte| *byte == b'\n').count();
    Place::new(span.source.file(), lines as u32 + 1, line.chars().count() as u32 + 1)
}

/// A walk over rules that sees every expression, in source order. A method that is overridden decides itself
/// whether to go on into the children, with the function of the same name.
pub(crate) trait Visit {
    fn rule(&mut self, rule: &Rule) {
        walk_rule(self, rule);
    }

    fn query(&mut self, query: &Query) {
        walk_query(self, query);
    }

    fn statement(&mut self, statement: &LiteralStmt) {
        walk_statement(self, statement);
    }

    fn expr(&mut self, expr: &Expr) {
        walk_expr(self, expr);
    }
}

/// Visits head, values and bodies of a rule. Of the head's reference only what stands in brackets is visited.
pub(crate) fn walk_rule<V: Visit + ?Sized>(visit: &mut V, rule: &Rule) {
    match rule {
        Rule::Default { refr, args, value, .. } => {
            walk_head_reference(visit, refr);
            args.iter().for_each(|arg| visit.expr(arg));
            visit.expr(value);
        }
        Rule::Spec { head, bodies, .. } => {
            match head {
                RuleHead::Compr { refr, assign, .. } => {
                    walk_head_reference(visit, refr);
                    assign.iter().for_each(|assign| visit.expr(&assign.value));
                }
                RuleHead::Set { refr, key, .. } => {
                    walk_head_reference(visit, refr);
                    key.iter().for_each(|key| visit.expr(key));
                }
                RuleHead::Func { refr, args, assign, .. } => {
                    walk_head_reference(visit, refr);
                    args.iter().for_each(|arg| visit.expr(arg));
                    assign.iter().for_each(|assign| visit.expr(&assign.value));
                }
            }
            for body in bodies {
                body.assign.iter().for_each(|assign| visit.expr(&assign.value));
                visit.query(&body.query);
            }
        }
    }
}

fn walk_head_reference<V: Visit + ?Sized>(visit: &mut V, mut refr: &Ref<Expr>) {
    loop {
        match refr.as_ref() {
            Expr::RefDot { refr: inner, .. } => refr = inner,
            Expr::RefBrack { refr: inner, index, .. } => {
                visit.expr(index);
                refr = inner;
            }
            _ => return,
        }
    }
}

/// Visits the statements of a query.
pub(crate) fn walk_query<V: Visit + ?Sized>(visit: &mut V, query: &Query) {
    query.stmts.iter().for_each(|statement| visit.statement(statement));
}

/// Visits the expressions of a statement. The target of a `with` is not visited, its value is.
pub(crate) fn walk_statement<V: Visit + ?Sized>(visit: &mut V, statement: &LiteralStmt) {
    match &statement.literal {
        Literal::SomeVars { .. } => {}
        Literal::SomeIn { key, value, collection, .. } => {
            key.iter().for_each(|key| visit.expr(key));
            visit.expr(value);
            visit.expr(collection);
        }
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => visit.expr(expr),
        Literal::Every { domain, query, .. } => {
            visit.expr(domain);
            visit.query(query);
        }
    }
    statement.with_mods.iter().for_each(|modifier| visit.expr(&modifier.r#as));
}

/// Visits the children of an expression. The function of a call is visited like an operand.
pub(crate) fn walk_expr<V: Visit + ?Sized>(visit: &mut V, expr: &Expr) {
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. } => {}
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(|item| visit.expr(item)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, key, value)| {
            visit.expr(key);
            visit.expr(value);
        }),
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            visit.expr(term);
            visit.query(query);
        }
        Expr::ObjectCompr { key, value, query, .. } => {
            visit.expr(key);
            visit.expr(value);
            visit.query(query);
        }
        Expr::Call { fcn, params, .. } => {
            visit.expr(fcn);
            params.iter().for_each(|param| visit.expr(param));
        }
        Expr::UnaryExpr { expr, .. } => visit.expr(expr),
        Expr::RefDot { refr, .. } => visit.expr(refr),
        Expr::RefBrack { refr, index, .. } => {
            visit.expr(refr);
            visit.expr(index);
        }
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => {
            visit.expr(lhs);
            visit.expr(rhs);
        }
        Expr::Membership { key, value, collection, .. } => {
            key.iter().for_each(|key| visit.expr(key));
            visit.expr(value);
            visit.expr(collection);
        }
    }
}

/// A reference such as `input.request.headers[name].x`, taken apart.
#[derive(Debug)]
pub(crate) struct Reference<'a> {
    /// The variable that it begins with.
    pub(crate) root: &'a str,
    /// The components behind it up to the first that is not a literal string.
    pub(crate) names: Vec<Rc<str>>,
    /// Whether `names` is the whole reference.
    pub(crate) complete: bool,
    /// Everything in brackets that is not a literal string, outermost first.
    pub(crate) indices: Vec<&'a Expr>,
}

impl<'a> Reference<'a> {
    /// `None` if `expr` is no reference, or one into something other than a variable (`f(x).y`, `[1, 2][0]`).
    pub(crate) fn of(expr: &'a Expr) -> Option<Self> {
        let mut links = Vec::new();
        let mut expr = expr;
        let root = loop {
            match expr {
                Expr::Var { span, .. } => break span.text(),
                Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => {
                    links.push(expr);
                    expr = refr;
                }
                _ => return None,
            }
        };
        let mut reference = Self { root, names: Vec::new(), complete: true, indices: Vec::new() };
        for link in links.into_iter().rev() {
            match link {
                Expr::RefDot { field, .. } => reference.link(field.1.as_string().ok(), None),
                Expr::RefBrack { index, .. } => match index.as_ref() {
                    Expr::String { value, .. } | Expr::RawString { value, .. } => {
                        reference.link(value.as_string().ok(), None);
                    }
                    index => reference.link(None, Some(index)),
                },
                _ => return None,
            }
        }
        Some(reference)
    }

    fn link(&mut self, name: Option<&Rc<str>>, index: Option<&'a Expr>) {
        self.indices.extend(index);
        match name {
            Some(name) if self.complete => self.names.push(name.clone()),
            Some(_) => {}
            None => self.complete = false,
        }
    }

    /// The reference as a dotted name, for messages and for the names of functions.
    pub(crate) fn dotted(&self) -> String {
        let mut dotted = self.root.to_owned();
        for name in &self.names {
            dotted.push('.');
            dotted.push_str(name);
        }
        dotted
    }
}

/// The reference that a rule defines.
pub(crate) fn head_of(rule: &Rule) -> &Ref<Expr> {
    match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
    }
}
