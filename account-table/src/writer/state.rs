//! One table file and what its writer knows of it: publishing and withdrawing in place, in an order that shows readers either the
//! old state or the new. Files and their names are `mod.rs`'s; taking over another writer's file is `adopt.rs`'s.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::groups::LiveGroup;
use super::heap::Heap;
use super::index::{Indexes, Shortage};
use super::spec::{AccountSpec, GroupSpec, Keys, WriteError};
use crate::layout::{Geometry, Head, Index, LINE_WORDS, MAGIC, Place, VERSION, header};
use crate::memory::WritableMapping;

/// Slot numbers: the lowest free one first, so that enumerations stay short.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Slots {
    /// Those from here on are free.
    high: u32,
    /// And these below, of which none is the last: when all are free, nothing is kept of any.
    freed: BTreeSet<u32>,
}

impl Slots {
    fn take(&mut self, geometry: Geometry) -> Option<u32> {
        if let Some(slot) = self.freed.pop_first() {
            return Some(slot);
        }
        let slot = self.high;
        ((slot as usize) < geometry.slots()).then(|| {
            self.high += 1;
            slot
        })
    }

    pub(crate) fn claim(&mut self, slot: u32) {
        if slot >= self.high {
            self.freed.extend(self.high..slot);
            self.high = slot + 1;
        } else {
            self.freed.remove(&slot);
        }
    }

    fn give_back(&mut self, slot: u32) {
        if slot + 1 < self.high {
            self.freed.insert(slot);
            return;
        }
        self.high = slot;
        while self.freed.last().is_some_and(|last| last + 1 == self.high) {
            self.freed.pop_last();
            self.high -= 1;
        }
    }

    fn shrink(&mut self) {
        self.freed = std::mem::take(&mut self.freed).into_iter().collect();
    }
}

#[derive(Debug)]
pub(crate) struct LiveUser {
    pub(crate) keys: Keys,
    pub(crate) place: Place,
}

/// Why a publication did not happen.
#[derive(Debug)]
pub(crate) enum Refused {
    /// For good.
    Write(WriteError),
    /// It would fit another file.
    Shortage(Shortage),
}

impl From<Shortage> for Refused {
    fn from(shortage: Shortage) -> Refused {
        Refused::Shortage(shortage)
    }
}

/// Hints that point to one user.
#[derive(Debug, Default)]
struct Hints {
    names: Vec<String>,
    ids: Vec<u32>,
    groups: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) map: WritableMapping,
    pub(crate) indexes: Indexes,
    pub(crate) heap: Heap,
    pub(crate) user_slots: Slots,
    pub(crate) users: HashMap<u32, LiveUser>,
    pub(crate) by_name: HashMap<String, u32>,
    pub(crate) by_uid: HashMap<u32, u32>,
    pub(crate) by_gid: HashMap<u32, u32>,
    pub(crate) group_slots: Slots,
    pub(crate) groups: HashMap<u32, LiveGroup>,
    pub(crate) by_group: HashMap<GroupSpec, u32>,
}

impl State {
    /// An empty table in a zeroed file that nobody reads yet.
    pub(crate) fn format(map: WritableMapping, epoch: u64, seed: u64, changes: u64) -> State {
        let geometry = map.geometry();
        map.store(header::SIZE, geometry.file_size() as u64);
        map.store(header::EPOCH, epoch);
        map.store(header::SEED, seed);
        map.store(header::CHANGES, changes);
        map.store(header::SHAPE, VERSION << 32 | u64::from(geometry.k()));
        map.store(header::MAGIC, MAGIC);
        State::around(map, seed)
    }

    /// What the writer knows of a table it knows nothing of.
    pub(crate) fn around(map: WritableMapping, seed: u64) -> State {
        State {
            heap: Heap::new(map.geometry()),
            map,
            indexes: Indexes::new(seed),
            user_slots: Slots::default(),
            users: HashMap::new(),
            by_name: HashMap::new(),
            by_uid: HashMap::new(),
            by_gid: HashMap::new(),
            group_slots: Slots::default(),
            groups: HashMap::new(),
            by_group: HashMap::new(),
        }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.map.geometry()
    }

    /// A generation no live head carries and no later one will; in the file before its first use, so that no successor of a
    /// writer that dies gives it out again.
    pub(crate) fn next_generation(&self) -> u64 {
        let generation = self.map.load(header::GENERATION).wrapping_add(1);
        self.map.store(header::GENERATION, generation);
        generation
    }

    /// After each store by which somebody looks up something else than before: what a reader kept of the time between the store
    /// and this is forgotten, too.
    pub(crate) fn note_change(&self) {
        self.map.store(
            header::CHANGES,
            self.map.load(header::CHANGES).wrapping_add(1),
        );
    }

    pub(crate) fn raise(&self, high: usize, slot: u32) {
        if self.map.load(high) <= u64::from(slot) {
            self.map.store(high, u64::from(slot) + 1);
        }
    }

    /// Reserves room for a record and fills it; nothing points to it yet.
    pub(crate) fn write_record(&mut self, words: &[u64]) -> Result<Place, Shortage> {
        let lines = words.len().div_ceil(LINE_WORDS) as u32;
        let place = self.heap.take(lines).ok_or(Shortage::Room)?;
        if let Some((first, _)) = self.geometry().words_of(place) {
            self.map.fill(first, words);
        }
        Ok(place)
    }

    /// Gives the block of a record that no head points to any more back, empty: who reads the file itself does not find who was here.
    pub(crate) fn free_record(&mut self, place: Place) {
        // The model has this order of stores where a block is used again; twice would be too many orders for it.
        #[cfg(not(loom))]
        if let Some((first, count)) = self.geometry().words_of(place) {
            self.map.fill(first, &vec![0; count]);
        }
        self.heap.give_back(place);
    }

    pub(crate) fn set_user_head(&self, slot: u32, head: u64) {
        if let Some(at) = self.geometry().user_head(slot) {
            self.map.store(at, head);
        }
    }

    fn owner(&self, slot: u32) -> &str {
        self.users.get(&slot).map_or("", |user| user.keys.login())
    }

    /// The slot of the account with this login, unless one of the keys is another's.
    fn slot_for(&self, spec: &AccountSpec) -> Result<Option<u32>, WriteError> {
        let own = self
            .by_name
            .get(&spec.login)
            .copied()
            .filter(|&slot| self.owner(slot) == spec.login);
        let taken = |what: &str, which: &dyn fmt::Display, slot: Option<&u32>| match slot {
            Some(&slot) if Some(slot) != own => Err(WriteError::Taken {
                what: format!("{what} {which}"),
                by: self.owner(slot).to_owned(),
            }),
            _ => Ok(()),
        };
        for name in spec.names() {
            taken("name", name, self.by_name.get(name))?;
        }
        taken("uid", &spec.uid, self.by_uid.get(&spec.uid))?;
        taken("gid", &spec.gid, self.by_gid.get(&spec.gid))?;
        Ok(own)
    }

    /// Inserts an account or replaces the one of the same login. Hints first; then the one store of the head that makes all of it
    /// visible; then what the old record alone needed goes.
    pub(crate) fn publish(&mut self, spec: &AccountSpec) -> Result<(), Refused> {
        let own = self.slot_for(spec).map_err(Refused::Write)?;
        let slot = match own {
            Some(slot) => slot,
            None => self
                .user_slots
                .take(self.geometry())
                .ok_or(Shortage::Room)?,
        };
        let generation = self.next_generation();
        let mut added = Hints::default();
        let (place, keys) = match self.prepare(slot, spec, generation, &mut added) {
            Ok(prepared) => prepared,
            Err(refused) => {
                self.release(slot, &added);
                if own.is_none() {
                    self.user_slots.give_back(slot);
                }
                return Err(refused);
            }
        };
        self.raise(header::USERS_HIGH, slot);
        self.set_user_head(slot, Head::new(generation, place).0);
        self.note_change();

        let old = self.users.remove(&slot);
        if let Some(old) = old {
            self.forget_keys(&old.keys);
            let ids = keys.ids();
            let dropped = Hints {
                names: old
                    .keys
                    .names
                    .iter()
                    .filter(|name| !keys.names.contains(name))
                    .cloned()
                    .collect(),
                ids: old
                    .keys
                    .ids()
                    .into_iter()
                    .filter(|id| !ids.contains(id))
                    .collect(),
                groups: old
                    .keys
                    .groups
                    .iter()
                    .filter(|group| !keys.groups.contains(group))
                    .copied()
                    .collect(),
            };
            self.release(slot, &dropped);
            self.free_record(old.place);
        }
        self.remember(slot, LiveUser { keys, place });
        Ok(())
    }

    /// Everything that comes before the head: hints noted in `added`, and the record.
    fn prepare(
        &mut self,
        slot: u32,
        spec: &AccountSpec,
        generation: u64,
        added: &mut Hints,
    ) -> Result<(Place, Keys), Refused> {
        let mut groups = Vec::new();
        for group in spec.unique_groups() {
            groups.push(self.group_slot(group, generation)?);
            if self
                .groups
                .get(&groups[groups.len() - 1])
                .is_some_and(|group| !group.has_member(slot))
            {
                added.groups.push(groups[groups.len() - 1]);
                self.join(groups[groups.len() - 1], slot, generation)?;
            }
        }
        let keys = Keys::of_spec(spec, groups);
        let (old_names, old_ids) = match self.users.get(&slot) {
            Some(old) => (old.keys.names.clone(), old.keys.ids()),
            None => Default::default(),
        };
        for name in keys.names.iter().filter(|name| !old_names.contains(name)) {
            self.indexes
                .insert(&self.map, Index::Names, self.indexes.hash_name(name), slot)?;
            added.names.push(name.clone());
        }
        for id in keys.ids().into_iter().filter(|id| !old_ids.contains(id)) {
            self.indexes
                .insert(&self.map, Index::Ids, self.indexes.hash_id(id), slot)?;
            added.ids.push(id);
        }
        let words = spec.encode(&keys.groups);
        Ok((self.write_record(&words)?, keys))
    }

    pub(crate) fn remember(&mut self, slot: u32, user: LiveUser) {
        for name in &user.keys.names {
            self.by_name.insert(name.clone(), slot);
        }
        self.by_uid.insert(user.keys.uid, slot);
        self.by_gid.insert(user.keys.gid, slot);
        self.users.insert(slot, user);
    }

    fn forget_keys(&mut self, keys: &Keys) {
        for name in &keys.names {
            self.by_name.remove(name);
        }
        self.by_uid.remove(&keys.uid);
        self.by_gid.remove(&keys.gid);
    }

    /// Takes hints out that no live record backs, and groups that have lost their last member.
    fn release(&mut self, slot: u32, hints: &Hints) {
        for name in &hints.names {
            self.indexes
                .remove(&self.map, Index::Names, self.indexes.hash_name(name), slot);
        }
        for &id in &hints.ids {
            self.indexes
                .remove(&self.map, Index::Ids, self.indexes.hash_id(id), slot);
        }
        for &group in &hints.groups {
            self.leave(group, slot);
        }
    }

    /// Makes an account vanish under all its names and from all its groups, by one store. False if there is none.
    pub(crate) fn withdraw(&mut self, login: &str) -> bool {
        let Some(slot) = self
            .by_name
            .get(login)
            .copied()
            .filter(|&slot| self.owner(slot) == login)
        else {
            return false;
        };
        self.set_user_head(slot, 0);
        self.note_change();
        if let Some(user) = self.users.remove(&slot) {
            self.forget_keys(&user.keys);
            let ids = user.keys.ids();
            self.release(
                slot,
                &Hints {
                    names: user.keys.names,
                    ids,
                    groups: user.keys.groups,
                },
            );
            self.free_record(user.place);
        }
        self.user_slots.give_back(slot);
        true
    }

    /// Copies everything live into a fresh, unread table, each user and group in the slot it has here, so that enumerations go on
    /// where they were.
    pub(crate) fn copy_into(&self, fresh: &mut State) -> Result<(), Shortage> {
        let generation = self.map.load(header::GENERATION).wrapping_add(1);
        fresh.map.store(header::GENERATION, generation);
        for (&slot, group) in &self.groups {
            fresh.group_slots.claim(slot);
            fresh.install_group(slot, &group.spec, generation)?;
        }
        for (&slot, user) in &self.users {
            fresh.user_slots.claim(slot);
            let Some((first, count)) = self.geometry().words_of(user.place) else {
                continue;
            };
            let words: Vec<u64> = (first..first + count).map(|at| self.map.load(at)).collect();
            let place = fresh.write_record(&words)?;
            for name in &user.keys.names {
                fresh.indexes.insert(
                    &fresh.map,
                    Index::Names,
                    fresh.indexes.hash_name(name),
                    slot,
                )?;
            }
            for id in user.keys.ids() {
                fresh
                    .indexes
                    .insert(&fresh.map, Index::Ids, fresh.indexes.hash_id(id), slot)?;
            }
            for &group in &user.keys.groups {
                fresh.join(group, slot, generation)?;
            }
            fresh.raise(header::USERS_HIGH, slot);
            fresh.set_user_head(slot, Head::new(generation, place).0);
            fresh.remember(
                slot,
                LiveUser {
                    keys: user.keys.clone(),
                    place,
                },
            );
        }
        Ok(())
    }

    /// Holds no more memory than it needs, and has it together: what is kept amid what came and went keeps whole pages.
    pub(crate) fn shrink(&mut self) {
        self.heap.shrink();
        self.user_slots.shrink();
        self.group_slots.shrink();
        self.users.shrink_to_fit();
        self.by_name.shrink_to_fit();
        self.by_uid.shrink_to_fit();
        self.by_gid.shrink_to_fit();
        self.groups.shrink_to_fit();
        self.by_group.shrink_to_fit();
    }

    pub(crate) fn take_group_slot(&mut self) -> Result<u32, Shortage> {
        self.group_slots.take(self.geometry()).ok_or(Shortage::Room)
    }

    pub(crate) fn free_group_slot(&mut self, slot: u32) {
        self.group_slots.give_back(slot);
    }
}
