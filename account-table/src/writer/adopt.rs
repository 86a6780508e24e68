//! Taking over a table another writer left, in place: readers keep their mapping and no live user is lost to them for an instant.
//! Everything is rebuilt from the live heads; what a writer that died left half-done is repaired by the ordinary, ordered stores.

use std::collections::{HashMap, HashSet};

use super::groups::{LiveGroup, chunk_lines};
use super::spec::{GroupSpec, Keys};
use super::state::{LiveUser, State};
use crate::account::Account;
use crate::group::Group;
use crate::layout::{Head, Index, Place, entry, header, hint};
use crate::memory::{Buffer, WritableMapping};

/// The file could not have been left by a writer, dead or alive: it is not to be trusted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// A member list as found: chunks, and the words that hold a hint.
type Chain = (Vec<Place>, Vec<(usize, u64)>);

impl State {
    /// Takes over the table in `map`.
    pub(crate) fn adopt(map: WritableMapping) -> Result<State, Damaged> {
        let seed = map.load(header::SEED);
        let mut state = State::around(map, seed);
        state.collect_users()?;
        let chains = state.collect_groups()?;
        state.check_memberships()?;
        state.repair_memberships(chains)?;
        state.repair_indexes()?;
        state.drop_empty_groups();
        if state.map.load(header::RETIRED) != 0 {
            // Its writer died before a successor took the path, so this still is the table.
            state.map.store(header::RETIRED, 0);
        }
        // The last change may have been made and not counted.
        state.note_change();
        Ok(state)
    }

    /// Copies what a head points to and reserves its place.
    fn claim_record(&mut self, head: u64, buffer: &mut Buffer) -> Result<Place, Damaged> {
        let place = Head(head).place();
        let (first, count) = self.geometry().words_of(place).ok_or(Damaged)?;
        buffer.fill(self.map.cells().get(first..first + count).ok_or(Damaged)?);
        if self.heap.claim(place) {
            Ok(place)
        } else {
            Err(Damaged)
        }
    }

    fn heads(&self, head_of: impl Fn(u32) -> Option<usize>) -> Vec<(u32, u64)> {
        let slots = 0..self.geometry().slots() as u32;
        slots
            .filter_map(|slot| Some((slot, self.map.load(head_of(slot)?))))
            .filter(|&(_, head)| head != 0)
            .collect()
    }

    fn collect_users(&mut self) -> Result<(), Damaged> {
        let geometry = self.geometry();
        let mut account = Account::empty();
        for (slot, head) in self.heads(|slot| geometry.user_head(slot)) {
            let place = self.claim_record(head, account.buffer_mut())?;
            let keys = if account.trim_and_check() {
                Keys::of_account(&account)
            } else {
                None
            }
            .ok_or(Damaged)?;
            let taken = keys
                .names
                .iter()
                .any(|name| self.by_name.contains_key(name))
                || self.by_uid.contains_key(&keys.uid)
                || self.by_gid.contains_key(&keys.gid);
            if taken || self.map.load(header::USERS_HIGH) <= u64::from(slot) {
                return Err(Damaged);
            }
            self.user_slots.claim(slot);
            self.remember(slot, LiveUser { keys, place });
        }
        Ok(())
    }

    fn collect_groups(&mut self) -> Result<HashMap<u32, Chain>, Damaged> {
        let geometry = self.geometry();
        let mut chains = HashMap::new();
        let mut buffer = Buffer::new();
        for (slot, head) in self.heads(|slot| geometry.group_head(slot)) {
            let record = self.claim_record(head, &mut buffer)?;
            let group = Group::of_record(&buffer, slot, head).ok_or(Damaged)?;
            let roster = group.roster().ok_or(Damaged)?;
            let spec = GroupSpec {
                name: group.name().to_owned(),
                gid: group.gid(),
                origin: group.origin(),
            };
            let repeated = self.by_group.insert(spec.clone(), slot).is_some();
            if repeated || self.map.load(header::GROUPS_HIGH) <= u64::from(slot) {
                return Err(Damaged);
            }
            let chain = self.collect_chain(roster.first)?;
            self.group_slots.claim(slot);
            let chunks = chain.0.clone();
            self.groups.insert(
                slot,
                LiveGroup {
                    spec,
                    record,
                    chunks,
                    holes: Vec::new(),
                    members: HashMap::new(),
                },
            );
            chains.insert(slot, chain);
        }
        Ok(chains)
    }

    /// Follows a member list; ends, because a chunk is reserved only once.
    fn collect_chain(&mut self, first: u64) -> Result<Chain, Damaged> {
        let (mut chunks, mut words) = (Vec::new(), Vec::new());
        let mut link = first;
        while link != 0 {
            let place = Place::from_bits(link);
            let (start, count) = self.geometry().words_of(place).ok_or(Damaged)?;
            if place.lines() != chunk_lines(chunks.len()) || !self.heap.claim(place) {
                return Err(Damaged);
            }
            words.extend((start + 1..start + count).map(|at| (at, self.map.load(at))));
            chunks.push(place);
            link = self.map.load(start);
        }
        if chunks.is_empty() {
            Err(Damaged)
        } else {
            Ok((chunks, words))
        }
    }

    /// A user can only list groups that were live before it was.
    fn check_memberships(&self) -> Result<(), Damaged> {
        let mut account = Account::empty();
        for user in self.users.values() {
            let (first, count) = self.geometry().words_of(user.place).ok_or(Damaged)?;
            account
                .buffer_mut()
                .fill(self.map.cells().get(first..first + count).ok_or(Damaged)?);
            let known = account.trim_and_check()
                && account.groups().all(|listed| {
                    self.groups
                        .get(&listed.slot)
                        .is_some_and(|group| group.spec.gid == listed.gid)
                });
            if !known {
                return Err(Damaged);
            }
        }
        Ok(())
    }

    /// Takes out hints that no record backs or that stand twice, and adds missing ones.
    fn repair_memberships(&mut self, chains: HashMap<u32, Chain>) -> Result<(), Damaged> {
        let listed: HashSet<(u32, u32)> = self
            .users
            .iter()
            .flat_map(|(&user, live)| live.keys.groups.iter().map(move |&group| (group, user)))
            .collect();
        let latest = self.map.load(header::GENERATION);
        for (slot, (_, words)) in chains {
            let Some(group) = self.groups.get_mut(&slot) else {
                continue;
            };
            for (at, word) in words.into_iter().rev() {
                match hint::slot(word) {
                    Some(user)
                        if listed.contains(&(slot, user))
                            && !group.has_member(user)
                            && hint::joined(word) <= latest =>
                    {
                        group.members.insert(user, at);
                    }
                    _ => {
                        if word != 0 {
                            self.map.store(at, 0);
                        }
                        group.holes.push(at);
                    }
                }
            }
        }
        let mut listed: Vec<(u32, u32)> = listed.into_iter().collect();
        listed.sort_unstable();
        for (slot, user) in listed {
            if self
                .groups
                .get(&slot)
                .is_some_and(|group| !group.has_member(user))
            {
                let generation = self.next_generation();
                self.join(slot, user, generation).map_err(|_| Damaged)?;
            }
        }
        Ok(())
    }

    fn drop_empty_groups(&mut self) {
        let empty: Vec<u32> = self
            .groups
            .iter()
            .filter(|(_, group)| group.members.is_empty())
            .map(|(&slot, _)| slot)
            .collect();
        empty.into_iter().for_each(|slot| self.drop_group(slot));
    }

    fn repair_indexes(&mut self) -> Result<(), Damaged> {
        let mut expected: [Vec<u64>; 4] = Default::default();
        let mut expect = |index: Index, hash: u64, slot: u32| {
            expected[index as usize].push(entry::new(hash, slot))
        };
        for (&slot, user) in &self.users {
            for name in &user.keys.names {
                expect(Index::Names, self.indexes.hash_name(name), slot);
            }
            for id in user.keys.ids() {
                expect(Index::Ids, self.indexes.hash_id(id), slot);
            }
        }
        for (&slot, group) in &self.groups {
            expect(
                Index::GroupNames,
                self.indexes.hash_name(&group.spec.name),
                slot,
            );
            expect(Index::Gids, self.indexes.hash_id(group.spec.gid), slot);
        }
        for (index, mut expected) in Index::ALL.into_iter().zip(expected) {
            expected.sort_unstable();
            self.indexes
                .repair(&self.map, index, &expected)
                .map_err(|_| Damaged)?;
        }
        Ok(())
    }
}
