//! Hot upgrade: a new process of the same or another version takes over, and no connection is refused or reset.
//!
//! The process that serves starts its program once more ([`successor`]) and hands over copies of its listening sockets, its admin
//! listener and socket, the lock of its state directory and its ticket keys. The new one ([`predecessor`]) reads the configuration,
//! starts its workers on the same sockets, and says so; until then the old one serves as before, and if that takes too long or fails it
//! goes on. After that the old one stops accepting, leaves the queues of these sockets to the new one, and drains. Both accept for a
//! moment, and at no moment does nobody. What a revocation of an operator changes afterwards, the old one reads from the state directory.

mod channel;
mod predecessor;
mod queue;
mod report;
mod successor;
mod words;

pub(crate) use self::predecessor::{BequeathedAdminSocket, Bequest, Predecessor, Verdict};
pub(crate) use self::queue::{Demand, Event, Upgrades};
pub(crate) use self::report::UpgradeReport;
pub(crate) use self::successor::{Estate, Heir, OperatorsEstate, UpgradeError, remember_program};
