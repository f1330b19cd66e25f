//! Names to numbers: gives every listener, route, policy, cluster and tenant a small id that stays the same for the life of the
//! process, and makes the shards that count by these ids.
//!
//! The control plane asks for ids while it builds a snapshot; workers only carry them. Because an id is never given to
//! another name, series survive reloads whichever routes come and go. It never blocks a worker: the locks in
//! here are taken by the control plane, the scrape and the log writer only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::closed::{ClosedSets, OTHER};
use crate::layout::Layout;
use crate::shard::{Cells, Shard};

/// Number of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) u32);

/// Number of a route of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(pub(crate) u32);

/// Number of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyId(pub(crate) u32);

/// Number of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterId(pub(crate) u32);

/// Number of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TenantId(pub(crate) u32);

/// How many names of each family get series of their own. Names above share the series labelled `other`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Listeners.
    pub listeners_max: usize,
    /// Routes of all listeners, counting one per listener for requests that match none.
    pub routes_max: usize,
    /// Policies.
    pub policies_max: usize,
    /// Clusters.
    pub clusters_max: usize,
    /// Tenants.
    pub tenants_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            listeners_max: 64,
            routes_max: 2_048,
            policies_max: 128,
            clusters_max: 512,
            tenants_max: 1_024,
        }
    }
}

/// The names and shards of one process. Clones share everything.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    layout: Arc<Layout>,
    names: Mutex<Names>,
    shards: Mutex<Vec<Arc<Cells>>>,
}

impl Registry {
    /// An empty registry. `sets` are the words that callers will pass to [`Shard`].
    pub fn new(sets: ClosedSets, limits: Limits) -> Registry {
        let names = Names {
            listeners: Family::new(limits.listeners_max, name(OTHER)),
            routes: Family::new(limits.routes_max, (ListenerId(0), name(OTHER))),
            policies: Family::new(limits.policies_max, name(OTHER)),
            clusters: Family::new(limits.clusters_max, name(OTHER)),
            tenants: Family::new(limits.tenants_max, name(OTHER)),
        };
        let inner = Inner {
            layout: Arc::new(Layout::new(sets, limits)),
            names: Mutex::new(names),
            shards: Mutex::default(),
        };
        Registry(Arc::new(inner))
    }

    /// The id of a listener by its configured name.
    pub fn listener(&self, listener: &str) -> ListenerId {
        ListenerId(self.names().listeners.id(name(listener)))
    }

    /// The id of a route by its configured id, which is unique within its listener.
    pub fn route(&self, listener: ListenerId, route: &str) -> RouteId {
        RouteId(self.names().routes.id((listener, name(route))))
    }

    /// Where requests are counted that match no route of the listener.
    pub fn unmatched(&self, listener: ListenerId) -> RouteId {
        self.route(listener, UNMATCHED)
    }

    /// The id of a policy by its configured name.
    pub fn policy(&self, policy: &str) -> PolicyId {
        PolicyId(self.names().policies.id(name(policy)))
    }

    /// The id of a cluster by its configured name.
    pub fn cluster(&self, cluster: &str) -> ClusterId {
        ClusterId(self.names().clusters.id(name(cluster)))
    }

    /// The id of a tenant by its configured name.
    pub fn tenant(&self, tenant: &str) -> TenantId {
        TenantId(self.names().tenants.id(name(tenant)))
    }

    /// A shard for a worker thread. A worker that is started again gets a new one; the counts of the old one stay.
    pub fn shard(&self, worker: u16) -> Shard {
        let cells = Arc::new(Cells::new(worker, Arc::clone(&self.0.layout)));
        lock(&self.0.shards).push(Arc::clone(&cells));
        Shard::new(cells)
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.0.layout
    }

    pub(crate) fn shards(&self) -> Vec<Arc<Cells>> {
        lock(&self.0.shards).clone()
    }

    pub(crate) fn names(&self) -> MutexGuard<'_, Names> {
        lock(&self.0.names)
    }
}

/// Every name ever given an id.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) listeners: Family<Arc<str>>,
    pub(crate) routes: Family<(ListenerId, Arc<str>)>,
    pub(crate) policies: Family<Arc<str>>,
    pub(crate) clusters: Family<Arc<str>>,
    pub(crate) tenants: Family<Arc<str>>,
}

/// The names of one kind of entity; the id is the position. Position 0 is `other`.
#[derive(Debug)]
pub(crate) struct Family<K> {
    ids: HashMap<K, u32>,
    keys: Vec<K>,
    series_max: usize,
    overflowed: AtomicU64,
}

impl<K: Clone + Eq + std::hash::Hash> Family<K> {
    fn new(series_max: usize, other: K) -> Family<K> {
        let ids = HashMap::from([(other.clone(), 0)]);
        Family { ids, keys: vec![other], series_max: series_max + 1, overflowed: AtomicU64::new(0) }
    }

    fn id(&mut self, key: K) -> u32 {
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = self.keys.len();
        if id >= self.series_max {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
        }
        if id >= NAMES_MAX {
            return 0;
        }
        self.keys.push(key.clone());
        self.ids.insert(key, id as u32);
        id as u32
    }

    /// The names that have series of their own, with their ids, `other` first.
    pub(crate) fn with_series(&self) -> impl Iterator<Item = (u32, &K)> {
        (0..).zip(&self.keys).take(self.series_max)
    }

    /// The name of an id, whether it has series of its own or not.
    pub(crate) fn name(&self, id: u32) -> &K {
        self.keys.get(id as usize).unwrap_or(&self.keys[0])
    }

    /// Names that came when the ceiling was reached.
    pub(crate) fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }
}

/// A configured name as it appears in labels and logs. Whatever the exposition format would escape is replaced: two
/// writers escape it differently, and two names must not end as one series written twice.
fn name(configured: &str) -> Arc<str> {
    configured
        .chars()
        .take(NAME_CHARS_MAX)
        .map(|c| if c.is_control() || matches!(c, '"' | '\\') { '_' } else { c })
        .collect::<String>()
        .into()
}

/// A poisoned lock only says that a scrape panicked: the numbers behind it are valid at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Label of requests that match no route.
pub const UNMATCHED: &str = "unmatched";
/// Names kept per family, so that a process that reloads for years stays bounded. Later ones are logged as `other`.
const NAMES_MAX: usize = 65_536;
const NAME_CHARS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(routes_max: usize) -> Registry {
        Registry::new(ClosedSets::default(), Limits { routes_max, ..Limits::default() })
    }

    #[test]
    fn ids_stay_the_same_across_reloads() {
        let registry = registry(10);
        let edge = registry.listener("edge");
        let orders = registry.route(edge, "orders");
        let invoices = registry.route(edge, "invoices");
        assert_ne!(orders, invoices);
        assert_eq!(registry.listener("edge"), edge);
        assert_eq!(registry.route(edge, "orders"), orders);
        assert_ne!(registry.route(registry.listener("inner"), "orders"), orders);
    }

    #[test]
    fn the_ceiling_bounds_series_but_not_names() {
        let registry = registry(2);
        let edge = registry.listener("edge");
        for route in ["a", "b"] {
            registry.route(edge, route);
        }
        assert_eq!(registry.names().routes.overflowed(), 0, "at the limit");
        let above = registry.route(edge, "c");
        assert_eq!(registry.route(edge, "c"), above, "counted once, not once per reload");
        let names = registry.names();
        assert_eq!(names.routes.overflowed(), 1);
        assert_eq!(names.routes.with_series().count(), 3, "two and other");
        assert_eq!(&*names.routes.name(above.0).1, "c", "the log still tells it apart");
    }

    #[test]
    fn names_are_bounded_too() {
        let mut family = Family::new(1, 0);
        for key in 1..NAMES_MAX {
            assert_ne!(family.id(key), 0);
        }
        assert_eq!(family.id(NAMES_MAX), 0);
        assert_eq!(family.id(NAMES_MAX - 1) as usize, NAMES_MAX - 1, "known names keep their ids");
    }

    #[test]
    fn a_name_that_is_configured_as_other_shares_the_overflow_series() {
        let registry = registry(10);
        assert_eq!(registry.listener(OTHER), ListenerId(0));
        assert_eq!(registry.policy(OTHER), PolicyId(0));
    }

    #[test]
    fn names_hold_nothing_that_would_have_to_be_escaped() {
        assert_eq!(&*name("a\"b\\c\nd\u{7f}é"), "a_b_c_d_é");
        assert_eq!(name(&"x".repeat(NAME_CHARS_MAX + 1)).len(), NAME_CHARS_MAX);
    }
}
