//! Evaluators of policies that are gone, let go of little by little.
//!
//! A full decision cache takes milliseconds to free, for which all connections of the worker would wait. And a policy with its
//! data, of which an evaluator has a share, is freed by whoever has the last one: that must be the control plane.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use ringward_policy::Remains;

use crate::{snapshot::Snapshot, worker::Evaluator};

/// Those of one worker.
#[derive(Default)]
pub(crate) struct Retired {
    evaluators: RefCell<Vec<Last>>,
    remains: RefCell<Vec<Remains>>,
}

/// An evaluator that nobody is going to ask.
struct Last {
    evaluator: Evaluator,
    /// Held for longer than the evaluator. As long as a worker has it the control plane does not drop it, and with it the policy.
    snapshot: Arc<Snapshot>,
}

impl Retired {
    /// Takes an evaluator that is in no view to come. `snapshot` has its policy.
    pub(crate) fn take(&self, evaluator: Evaluator, snapshot: Arc<Snapshot>) {
        self.evaluators.borrow_mut().push(Last { evaluator, snapshot });
    }

    /// Lets go of a piece.
    pub(crate) fn shrink(&self) {
        let mut remains = self.remains.borrow_mut();
        // Exchanges that began before may still have the view, and with it the evaluator.
        let unused = |last: &mut Last| Rc::strong_count(&last.evaluator) == 1;
        for Last { evaluator, snapshot } in self.evaluators.borrow_mut().extract_if(.., unused) {
            remains.extend(
                Rc::into_inner(evaluator).and_then(|evaluator| evaluator.into_inner().into_remains()),
            );
            drop(snapshot);
        }
        if remains.last_mut().is_some_and(|last| !last.shrink(ENTRIES_PER_BEAT)) {
            remains.pop();
        }
    }
}

/// Freeing one takes about 100 ns.
const ENTRIES_PER_BEAT: usize = 4096;

#[cfg(test)]
mod tests {
    use ringward_policy::{CachingWorker, CompiledPolicy, Limits, PolicySet, Source};

    use super::*;

    fn policy() -> Arc<dyn CompiledPolicy> {
        let source = Source::new("p.rego", &b"package p\nallow := true\n"[..]);
        ringward_policy::compile(&PolicySet::new(vec![source], "data.p.allow", Limits::default())).unwrap()
    }

    /// What frees a policy is dropping the snapshot, which nobody but the control plane may be the last to do.
    #[test]
    fn the_snapshot_outlives_the_evaluator_and_both_outlive_who_uses_it() {
        let retired = Retired::default();
        let evaluator: Evaluator = Rc::new(RefCell::new(CachingWorker::new(&*policy(), None)));
        let (alive, snapshot) = (Rc::downgrade(&evaluator), Arc::new(Snapshot::empty()));
        let in_use = evaluator.clone();
        retired.take(evaluator, snapshot.clone());
        retired.shrink();
        assert!(alive.upgrade().is_some(), "an exchange asks it still");
        assert_eq!(Arc::strong_count(&snapshot), 2, "the control plane has to wait");
        drop(in_use);
        retired.shrink();
        assert!(alive.upgrade().is_none());
        assert_eq!(Arc::strong_count(&snapshot), 1, "the control plane may drop it");
    }
}
