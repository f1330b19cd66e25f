//! Revocation lists from wherever they came: reading them, and which of them count.
//!
//! Pure. Reading verifies a signature over the whole list, some 0.2 s for a million entries, so it belongs on a thread that may
//! block. A complete list and the deltas of it may come from different places and at different times; they are kept apart
//! here and put together when a snapshot is made.

use std::collections::HashMap;
use std::sync::Arc;

use ringward_tls::{
    CrlError, CrlFloors, CrlHead, CrlIndex, DeltaCrl, IssuerCertificate, IssuerId, ParsedCrl, parse_crl,
    read_crls,
};

use crate::background;

/// A list whose signature is good. Clones share it.
#[derive(Clone, Debug)]
pub(crate) enum List {
    /// All that is revoked within its scope.
    Complete(Arc<CrlIndex>),
    /// What has changed since a complete list.
    Delta(Arc<DeltaCrl>),
}

impl List {
    /// Reads one list, DER or PEM, that one of `issuers` has signed and that is not older than what was seen before.
    ///
    /// # Errors
    /// Why it is not used.
    pub(crate) fn read(
        bytes: &[u8],
        issuers: &[IssuerCertificate],
        floors: &CrlFloors,
        now_unix: i64,
    ) -> Result<List, CrlError> {
        let _reading = background::idle();
        let list = match parse_crl(bytes, issuers, now_unix, background::pause)? {
            ParsedCrl::Complete(index) => List::Complete(Arc::new(index)),
            ParsedCrl::Delta(delta) => List::Delta(Arc::new(delta)),
        };
        list.check_age(floors)
    }

    /// This list, unless it is older than what was seen before.
    ///
    /// # Errors
    /// If it is.
    pub(crate) fn check_age(self, floors: &CrlFloors) -> Result<List, CrlError> {
        floors.check(self.head(), self.is_delta())?;
        Ok(self)
    }

    /// Reads all lists of a file, each with its own error: one that is broken does not take the others along.
    ///
    /// # Errors
    /// If the file as a whole is not one of lists.
    pub(crate) fn read_file(
        bytes: &[u8],
        issuers: &[IssuerCertificate],
        floors: &CrlFloors,
        now_unix: i64,
    ) -> Result<Vec<Result<List, CrlError>>, CrlError> {
        let lists = read_crls(bytes)?;
        Ok(lists.iter().map(|der| List::read(der, issuers, floors, now_unix)).collect())
    }

    /// What it says about itself.
    pub(crate) fn head(&self) -> &CrlHead {
        match self {
            List::Complete(index) => index.head(),
            List::Delta(delta) => delta.head(),
        }
    }

    /// Whether it lists changes only.
    pub(crate) fn is_delta(&self) -> bool {
        matches!(self, List::Delta(_))
    }

    /// Whether this is that very list, and not only one that says the same.
    pub(crate) fn is(&self, other: &List) -> bool {
        match (self, other) {
            (List::Complete(one), List::Complete(other)) => Arc::ptr_eq(one, other),
            (List::Delta(one), List::Delta(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Whether this is of the same issuer, kind and scope as `other`, so that the newer one of them counts.
    pub(crate) fn replaces(&self, other: &List) -> bool {
        let (head, other_head) = (self.head(), other.head());
        self.is_delta() == other.is_delta()
            && head.issuer == other_head.issuer
            && head.scope == other_head.scope
    }

    /// Certificates on it.
    pub(crate) fn entries(&self) -> usize {
        match self {
            List::Complete(index) => index.entries(),
            List::Delta(delta) => delta.entries(),
        }
    }

    /// What the entries occupy.
    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            List::Complete(index) => index.memory_bytes(),
            List::Delta(delta) => delta.memory_bytes(),
        }
    }
}

/// What workers look up: of each issuer and scope the newest complete list, under the newest delta that fits it.
pub(crate) fn in_force<'a>(lists: impl IntoIterator<Item = &'a List>) -> Vec<Arc<CrlIndex>> {
    let mut by_issuer: HashMap<IssuerId, OfIssuer<'a>> = HashMap::new();
    for list in lists {
        by_issuer.entry(list.head().issuer).or_default().add(list);
    }
    by_issuer.into_values().flat_map(OfIssuer::in_force).collect()
}

/// The lists of one issuer.
#[derive(Default)]
struct OfIssuer<'a> {
    /// The newest of each scope.
    complete: Vec<&'a Arc<CrlIndex>>,
    deltas: Vec<&'a Arc<DeltaCrl>>,
}

impl<'a> OfIssuer<'a> {
    fn add(&mut self, list: &'a List) {
        match list {
            List::Delta(delta) => self.deltas.push(delta),
            List::Complete(index) => {
                match self.complete.iter_mut().find(|other| other.head().scope == index.head().scope) {
                    Some(other) if index.head().age_order(other.head()).is_gt() => *other = index,
                    Some(_) => {}
                    None => self.complete.push(index),
                }
            }
        }
    }

    fn in_force(mut self) -> Vec<Arc<CrlIndex>> {
        self.deltas.sort_by(|one, other| other.head().age_order(one.head()));
        let under_delta = |index: &Arc<CrlIndex>| {
            // Those of other scopes, and those that begin too late, do not fit.
            let fits = self.deltas.iter().find_map(|delta| index.with_delta((*delta).clone()).ok());
            fits.map_or_else(|| index.clone(), Arc::new)
        };
        self.complete.into_iter().map(under_delta).collect()
    }
}

#[cfg(test)]
mod tests {
    use ringward_testkit::{Authority, Crl};
    use ringward_tls::{CrlNumber, Serial};

    use super::*;
    use crate::trust::testing::issuer;

    fn read(root: &Authority, crl: &Crl) -> List {
        let now_unix = crate::trust::clock::Clock::system().now_unix();
        List::read(&root.sign_crl(crl), &[issuer(root)], &CrlFloors::new(), now_unix).unwrap()
    }

    /// The number of each list in force, that of its delta, and which of these serials it has.
    fn shown(lists: &[List], serials: &[u8]) -> Vec<(Option<CrlNumber>, Option<CrlNumber>, Vec<u8>)> {
        let found = |index: &CrlIndex, serial: u8| index.find(&Serial::new(&[serial]).unwrap()).is_some();
        let shown = |index: Arc<CrlIndex>| {
            let delta = index.delta().and_then(|delta| delta.head().number);
            let serials = serials.iter().copied().filter(|serial| found(&index, *serial)).collect();
            (index.head().number, delta, serials)
        };
        in_force(lists).into_iter().map(shown).collect()
    }

    #[test]
    fn the_newest_list_counts_under_the_newest_delta_that_fits() {
        let root = Authority::root("Root");
        let number = |number: u64| Some(CrlNumber::from(number));
        let old = read(&root, &Crl::new().number(7).revoke(&[1]));
        let new = read(&root, &Crl::new().number(9).revoke(&[1]).revoke(&[2]));
        let early = read(&root, &Crl::new().number(8).delta_of(7).revoke(&[2]));
        let late = read(&root, &Crl::new().number(11).delta_of(7).revoke(&[3]));
        let beyond = read(&root, &Crl::new().number(12).delta_of(10).revoke(&[4]));
        let table: [(&[&List], _); 6] = [
            (&[&old, &new], (number(9), None, vec![1, 2])),
            (&[&new, &old], (number(9), None, vec![1, 2])),
            (&[&early, &old], (number(7), number(8), vec![1, 2])),
            // What it says, the list says too.
            (&[&new, &early], (number(9), None, vec![1, 2])),
            (&[&early, &late, &new, &old], (number(9), number(11), vec![1, 2, 3])),
            // Between 9 and 10 nobody knows what happened.
            (&[&new, &beyond, &late], (number(9), number(11), vec![1, 2, 3])),
        ];
        for (lists, expected) in table {
            let lists: Vec<List> = lists.iter().map(|list| (*list).clone()).collect();
            assert_eq!(shown(&lists, &[1, 2, 3, 4]), [expected]);
        }
        assert_eq!(shown(&[early], &[]), []);
    }

    #[test]
    fn issuers_and_scopes_do_not_mix() {
        let (root, other) = (Authority::root("Root"), Authority::root("Root"));
        // onlyContainsUserCerts
        let users = Crl::new().number(3).revoke(&[3]).extension("2.5.29.28", true, &[0x30, 3, 0x81, 1, 0xff]);
        let lists = [
            read(&root, &Crl::new().number(1).revoke(&[1])),
            read(&other, &Crl::new().number(2).revoke(&[2])),
            read(&root, &users),
        ];
        let mut shown: Vec<_> =
            shown(&lists, &[1, 2, 3]).into_iter().map(|(_, _, serials)| serials).collect();
        shown.sort();
        assert_eq!(shown, [[1], [2], [3]]);
    }
}
