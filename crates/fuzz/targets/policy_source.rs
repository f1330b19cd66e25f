//! Policy sources up to the point where a policy would be evaluated: lexical scan, parser, checks of the tree, data
//! documents. Nothing is evaluated, so whatever the text is, this ends soon and without taking the process along.
//!
//! The input is one Rego source and, behind the first NUL, a data document (YAML, which JSON is a part of).
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_policy::{Limits, PolicySet, Source, compile};

fuzz_target!(
    init: {
        // A panic of the interpreter is caught and reported as a problem of the policy; the hook of libFuzzer would
        // end the process instead. Panics that nobody catches still do.
        std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    },
    |input: &[u8]| {
        let mut parts = input.splitn(2, |byte| *byte == 0);
        let mut sources = vec![Source::new("policy.rego", parts.next().unwrap_or_default())];
        sources.extend(parts.next().map(|data| Source::new("data.yaml", data)));
        let set = PolicySet::new(sources, "data.ringward.authz.decision", Limits::default());
        if let Err(found) = compile(&set) {
            assert!(!found.to_string().is_empty(), "refused without a reason");
        }
    }
);
