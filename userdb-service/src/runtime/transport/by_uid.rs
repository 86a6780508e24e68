//! The connections of each UID: how many, and how much memory they hold beyond the little that each may.
//! Who has to go when it is too much together is chosen here; nobody is closed.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::connections::Connection;

/// The connections of one UID.
#[derive(Debug, Default)]
pub(super) struct OfUid {
    members: RefCell<BTreeMap<u64, Rc<Connection>>>,
    held: Cell<usize>,
}

impl OfUid {
    pub(super) fn count(&self) -> usize {
        self.members.borrow().len()
    }

    /// One of them holds so many bytes now, and has held so many before.
    pub(super) fn holds(&self, now: usize, before: usize) {
        self.held.update(|all| all + now - before);
    }

    /// The one whose `claim` is the least, of those that have one.
    pub(super) fn least<C: Ord>(&self, claim: impl Fn(&Connection) -> Option<C>) -> Option<u64> {
        let members = self.members.borrow();
        let claims = members.iter().filter_map(|(id, c)| Some((claim(c)?, *id)));
        claims.min().map(|(_, id)| id)
    }

    /// The one that holds most, of those that can give way; of several the one that has been at it for longest.
    fn holder(&self) -> Option<u64> {
        self.least(|c| c.gives_way().then(|| (Reverse(c.held()), c.since())))
    }
}

/// Those of all UIDs.
#[derive(Debug, Default)]
pub(super) struct ByUid(HashMap<u32, Rc<OfUid>>);

impl ByUid {
    pub(super) fn of(&self, uid: u32) -> Option<&Rc<OfUid>> {
        self.0.get(&uid)
    }

    pub(super) fn insert(&mut self, uid: u32, id: u64, connection: &Rc<Connection>) -> Rc<OfUid> {
        let of = self.0.entry(uid).or_default();
        of.members.borrow_mut().insert(id, Rc::clone(connection));
        of.holds(connection.held(), 0);
        Rc::clone(of)
    }

    pub(super) fn remove(&mut self, uid: u32, id: u64) {
        let Some(of) = self.0.get(&uid) else { return };
        if let Some(connection) = of.members.borrow_mut().remove(&id) {
            of.holds(0, connection.held());
        }
        if of.count() == 0 {
            self.0.remove(&uid);
        }
    }

    /// Those of the UID that has most and is not spared, if it has more than so many.
    pub(super) fn more_than(
        &self,
        count: usize,
        is_spared: impl Fn(u32) -> bool,
    ) -> Option<Rc<OfUid>> {
        let all = self.0.iter().filter(|(uid, _)| !is_spared(**uid));
        let most = all.map(|(_, of)| of).max_by_key(|of| of.count());
        most.filter(|of| of.count() > count).cloned()
    }

    /// The one that holds most, of the UID that holds most; only where there is no other, of one that `is_spared`.
    pub(super) fn holder(&self, is_spared: impl Fn(u32) -> bool) -> Option<u64> {
        let mut all: Vec<_> = self.0.iter().filter(|(_, of)| of.held.get() > 0).collect();
        all.sort_unstable_by_key(|(uid, of)| (is_spared(**uid), Reverse(of.held.get())));
        all.iter().find_map(|(_, of)| of.holder())
    }
}
