//! A bounded cache of compiled patterns that belongs to one evaluator.

use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;

/// Compiled patterns by their text.
///
/// Patterns may come from requests, so the number is bounded: with [`Self::HALF`] new ones, those that were not used
/// since the last such moment are dropped. A clone is empty: regorus clones builtins with the engine, and caches are
/// not to be shared between workers.
#[derive(Default)]
pub(crate) struct PatternCache {
    young: HashMap<Box<str>, Arc<Regex>>,
    old: HashMap<Box<str>, Arc<Regex>>,
}

impl PatternCache {
    /// Half of the most patterns that are held.
    pub(crate) const HALF: usize = 256;

    /// The pattern compiled for `key`, by `compile` if it is not held.
    pub(crate) fn get<E>(
        &mut self,
        key: &str,
        compile: impl FnOnce() -> Result<Regex, E>,
    ) -> Result<Arc<Regex>, E> {
        if let Some(found) = self.young.get(key) {
            return Ok(Arc::clone(found));
        }
        let (key, regex) = match self.old.remove_entry(key) {
            Some(found) => found,
            None => (key.into(), Arc::new(compile()?)),
        };
        if self.young.len() >= Self::HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, Arc::clone(&regex));
        Ok(regex)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

impl Clone for PatternCache {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_compiled_once_and_bounded() {
        let mut cache = PatternCache::default();
        let mut compiled = 0;
        let mut get = |cache: &mut PatternCache, key: &str| {
            cache
                .get(key, || {
                    compiled += 1;
                    Regex::new(key)
                })
                .unwrap();
            compiled
        };
        assert_eq!(get(&mut cache, "kept"), 1);
        for n in 0..PatternCache::HALF * 3 {
            get(&mut cache, &format!("p{n}"));
            // In use, so it is never dropped.
            assert_eq!(get(&mut cache, "kept"), n + 2);
            assert!(cache.len() <= PatternCache::HALF * 2);
        }
        assert_eq!(get(&mut cache, "p0"), PatternCache::HALF * 3 + 2);
        assert_eq!(cache.clone().len(), 0);
    }

    #[test]
    fn what_does_not_compile_is_not_held() {
        let mut cache = PatternCache::default();
        assert!(cache.get("(", || Err::<Regex, _>("invalid")).is_err());
        assert_eq!(cache.len(), 0);
    }
}
