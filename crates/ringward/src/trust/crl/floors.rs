//! The highest numbers of revocation lists that were seen, kept on disk.
//!
//! An old list is signed as well as a new one. Whoever can replace a file, or what a server answers, could bring back a
//! list without a certain entry, were it not for these. They survive the end of the process, however it comes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringward_tls::{CrlFloors, FLOORS_MAX};

use super::list::List;
use crate::trust::state::{StateDir, StateError};

/// The floors, in memory and in the state directory.
#[derive(Debug)]
pub(crate) struct Floors {
    /// Absent if nothing in the configuration needs one; then there are no lists either.
    state_dir: Option<Arc<StateDir>>,
    known: Mutex<CrlFloors>,
    /// Held while the file is written, so that an older content does not replace a newer one. Whether the file lacks a floor
    /// because it could not be written.
    writing: Mutex<bool>,
}

impl Floors {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read whole: forgetting a floor would let an old list in.
    pub(crate) fn load(state_dir: Option<Arc<StateDir>>) -> Result<Floors, StateError> {
        let content =
            state_dir.as_ref().map(|state| state.read_sealed(FILE, FILE_BYTES_MAX)).transpose()?.flatten();
        let known = match (&state_dir, content) {
            (Some(state), Some(content)) => {
                let damaged = |reason: String| StateError::Damaged { path: state.path_of(FILE), reason };
                let text = str::from_utf8(&content).map_err(|error| damaged(error.to_string()))?;
                CrlFloors::parse(text).map_err(|error| damaged(error.to_string()))?
            }
            _ => CrlFloors::new(),
        };
        Ok(Floors { state_dir, known: Mutex::new(known), writing: Mutex::default() })
    }

    /// As they are now.
    pub(crate) fn current(&self) -> CrlFloors {
        self.known().clone()
    }

    /// Remembers lists that are about to be used, on disk before this returns. Blocks.
    ///
    /// # Errors
    /// If the file cannot be written. The lists should be used even then: they say more than those before them. What was
    /// remembered is lost with the process until it is written, which every later call tries again.
    pub(crate) fn raise<'a>(&self, lists: impl IntoIterator<Item = &'a List>) -> Result<(), StateError> {
        let mut missing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = {
            let mut known = self.known();
            let mut rose = *missing;
            for list in lists {
                rose |= known.raise(list.head(), list.is_delta());
            }
            if !rose {
                return Ok(());
            }
            known.serialize()
        };
        let Some(state) = &self.state_dir else { return Ok(()) };
        let written = state.write_sealed(FILE, text.as_bytes());
        *missing = written.is_err();
        written
    }

    fn known(&self) -> MutexGuard<'_, CrlFloors> {
        // A floor that rose stays a floor, whatever came after it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FILE: &str = "crl-floors";
/// Two hexadecimal digests and a time for each, with room.
const FILE_BYTES_MAX: u64 = FLOORS_MAX as u64 * 160;
