//! regorus' own builtins behind a check of ours.

use std::sync::Arc;

use regorus::Value;
use regorus::unstable::{BUILTINS, Expr, Ref, Source, Span};

use crate::builtins::{CallError, Function};

/// Checks the arguments; may already give the result.
pub(crate) type Check = fn(&[Value]) -> Result<Option<Value>, CallError>;

/// The builtins of these names, each of which runs if its check neither fails nor gives a result.
pub(crate) fn checked(checks: &[(&'static str, Check)]) -> Vec<Function> {
    let function = |&(name, check): &(&'static str, Check)| -> Function {
        let original = Original::of(name);
        let call = move |args: &[Value]| check(args)?.map_or_else(|| original.call(args), Ok);
        (name, Box::new(move |args| call(&args).map_err(Into::into)))
    };
    checks.iter().map(function).collect()
}

/// regorus' own builtin, which wants to know where the call stands; the interpreter adds the real place.
#[derive(Clone)]
pub(crate) struct Original {
    name: &'static str,
    span: Arc<Span>,
    params: Arc<[Ref<Expr>]>,
}

impl Original {
    pub(crate) fn of(name: &'static str) -> Self {
        let source =
            Source::from_contents(String::new(), name.to_owned()).expect("a name is within all limits");
        let span = Span { source, line: 1, col: 1, start: 0, end: 0 };
        let (_, arity) = BUILTINS.get(name).expect("only builtins of regorus are wrapped");
        let param = || Ref::new(Expr::Null { span: span.clone(), value: Value::Null, eidx: 0 });
        let params = (0..*arity).map(|_| param()).collect();
        Self { name, span: Arc::new(span), params }
    }

    /// Calls it. Some builtins give nothing where OPA's fail, which would let a negation hold: here they fail, too.
    pub(crate) fn call(&self, args: &[Value]) -> Result<Value, CallError> {
        let (function, _) = BUILTINS.get(self.name).expect("looked up before");
        let result = function(&self.span, &self.params, args, true).map_err(|error| {
            // The place is that of the stand-in; the message is behind it.
            let message = error.to_string();
            let message = message.rsplit_once("error: ").map_or(message.as_str(), |(_, message)| message);
            CallError::new(message)
        })?;
        match result {
            Value::Undefined => Err(CallError(format!("`{}` has no result for these arguments", self.name))),
            result => Ok(result),
        }
    }
}
