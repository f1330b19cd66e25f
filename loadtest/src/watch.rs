//! Looks at the target's processes while a run goes on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use crate::process::{Processes, Usage};
use crate::report::ServerReport;

/// Somebody who looks, until the end.
pub(crate) struct Watch {
    processes: Processes,
    memory_max: Rc<Cell<u64>>,
    looking: JoinHandle<()>,
}

impl Watch {
    /// Looks from now on.
    pub(crate) fn begin(processes: Processes) -> Watch {
        let memory_max = Rc::new(Cell::new(0));
        let (seen, max) = (processes.clone(), memory_max.clone());
        let looking = spawn_local(async move {
            // If they are gone, the run's own failures say so.
            while let Some(usage) = seen.usage() {
                max.set(usage.memory.max(max.get()));
                sleep(BETWEEN_LOOKS).await;
            }
        });
        Watch { processes, memory_max, looking }
    }

    /// What they have used since `before`; `None` if they are gone.
    pub(crate) fn end(self, before: Option<Usage>) -> Option<ServerReport> {
        self.looking.abort();
        let (before, after) = (before?, self.processes.usage()?);
        Some(ServerReport {
            cpu_seconds: after.cpu.saturating_sub(before.cpu).as_secs_f64(),
            cpu_us_per_right: None,
            memory_begin: before.memory,
            memory_max: self.memory_max.get().max(after.memory).max(before.memory),
            memory_end: after.memory,
        })
    }
}

/// Often enough for memory, and rarely enough to cost nothing.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
