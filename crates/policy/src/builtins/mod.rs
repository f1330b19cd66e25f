//! Builtin functions: which are allowed, and those of our own in place of regorus'.
//!
//! `glob.*` and `regex.*` are our own because regorus' differ from OPA's in the direction of allowing (Unicode classes,
//! `:` as a delimiter, `[^x]`) and clone a matcher for each call. What could run or allocate without bound at the wish
//! of a client is wrapped by [`bounded`]; what gives other results than OPA's is put right in [`corrected`]. All state belongs to one evaluator and is not shared between workers.

pub(crate) mod bounded;
pub(crate) mod cache;
pub(crate) mod catalogue;
pub(crate) mod corrected;
pub(crate) mod crypto;
pub(crate) mod encodings;
pub(crate) mod glob;
pub(crate) mod header;
pub(crate) mod net;
pub(crate) mod original;
pub(crate) mod regex;
pub(crate) mod sprintf;
pub(crate) mod time;
pub(crate) mod x509;

use regorus::{Engine, Extension, Rc, Value};

/// Why a call failed; becomes an error of the evaluation, which denies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CallError(pub(crate) String);

impl CallError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Gives the engine our builtins. They take precedence over regorus' of the same name.
pub(crate) fn register(engine: &mut Engine) {
    let functions = [
        bounded::functions(),
        corrected::functions(),
        crypto::functions(),
        encodings::functions(),
        glob::functions(),
        net::functions(),
        regex::functions(),
        time::functions(),
        x509::functions(),
    ];
    for (name, function) in functions.into_iter().flatten() {
        let arity = catalogue::allowed(name).map_or(0, |builtin| builtin.arity);
        let arity = u8::try_from(arity).expect("arities of builtins are small");
        engine.add_extension(name.to_owned(), arity, function).expect("each name is registered once");
    }
}

/// A builtin of our own: its name and what it does.
type Function = (&'static str, Box<dyn Extension>);

/// Text argument number `index` of `name`.
fn text<'a>(name: &str, args: &'a [Value], index: usize) -> Result<&'a Rc<str>, CallError> {
    match args.get(index) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(CallError(format!("`{name}` expects a string as argument {}", index + 1))),
    }
}

/// Whole-number argument number `index` of `name`.
fn integer(name: &str, args: &[Value], index: usize) -> Result<i64, CallError> {
    args.get(index)
        .and_then(|value| value.as_i64().ok())
        .ok_or_else(|| CallError(format!("`{name}` expects an integer as argument {}", index + 1)))
}
