//! Shared groups in the file: their records, and the lists that hint at their members.
//! A group lives as long as somebody lists it; who is a member is said by the members' own records alone.

use std::collections::HashMap;

use super::index::Shortage;
use super::spec::GroupSpec;
use super::state::State;
use crate::layout::{Head, Index, MAX_LINES, Place, header, hint};

#[derive(Debug)]
pub(crate) struct LiveGroup {
    pub(crate) spec: GroupSpec,
    pub(crate) record: Place,
    /// The member chunks in the order they are linked: 1, 2, 4 … 64, 64 … lines.
    pub(crate) chunks: Vec<Place>,
    /// Words in the chunks that hold no hint.
    pub(crate) holes: Vec<usize>,
    /// Slots of the members, and the word that holds each one's hint.
    pub(crate) members: HashMap<u32, usize>,
}

impl LiveGroup {
    pub(crate) fn has_member(&self, user: u32) -> bool {
        self.members.contains_key(&user)
    }
}

/// Lines of the n-th member chunk.
pub(crate) fn chunk_lines(position: usize) -> u32 {
    1u32.checked_shl(position as u32)
        .map_or(MAX_LINES, |lines| lines.min(MAX_LINES))
}

impl State {
    /// The slot of a group, made live if it was not. It may be seen without a member for the instant before its first one's head.
    pub(crate) fn group_slot(
        &mut self,
        spec: &GroupSpec,
        generation: u64,
    ) -> Result<u32, Shortage> {
        if let Some(&slot) = self.by_group.get(spec) {
            return Ok(slot);
        }
        let slot = self.take_group_slot()?;
        let installed = self.install_group(slot, spec, generation);
        if installed.is_err() {
            self.free_group_slot(slot);
        }
        installed.map(|()| slot)
    }

    pub(crate) fn install_group(
        &mut self,
        slot: u32,
        spec: &GroupSpec,
        generation: u64,
    ) -> Result<(), Shortage> {
        let chunk = self.empty_chunk(0)?;
        let record = match self.write_record(&spec.encode(chunk.bits())) {
            Ok(record) => record,
            Err(shortage) => {
                self.heap.give_back(chunk);
                return Err(shortage);
            }
        };
        let hinted = self.hint_group(slot, spec);
        if hinted.is_err() {
            self.unhint_group(slot, spec);
            self.free_record(record);
            self.heap.give_back(chunk);
            return hinted;
        }
        self.raise(header::GROUPS_HIGH, slot);
        self.set_group_head(slot, Head::new(generation, record).0);
        let holes = self.entries_of(chunk);
        let group = LiveGroup {
            spec: spec.clone(),
            record,
            chunks: vec![chunk],
            holes,
            members: HashMap::new(),
        };
        self.groups.insert(slot, group);
        self.by_group.insert(spec.clone(), slot);
        Ok(())
    }

    fn hint_group(&mut self, slot: u32, spec: &GroupSpec) -> Result<(), Shortage> {
        self.indexes.insert(
            &self.map,
            Index::GroupNames,
            self.indexes.hash_name(&spec.name),
            slot,
        )?;
        self.indexes
            .insert(&self.map, Index::Gids, self.indexes.hash_id(spec.gid), slot)
    }

    fn unhint_group(&mut self, slot: u32, spec: &GroupSpec) {
        self.indexes.remove(
            &self.map,
            Index::GroupNames,
            self.indexes.hash_name(&spec.name),
            slot,
        );
        self.indexes
            .remove(&self.map, Index::Gids, self.indexes.hash_id(spec.gid), slot);
    }

    fn set_group_head(&self, slot: u32, head: u64) {
        if let Some(at) = self.geometry().group_head(slot) {
            self.map.store(at, head);
        }
    }

    fn empty_chunk(&mut self, position: usize) -> Result<Place, Shortage> {
        let place = self
            .heap
            .take(chunk_lines(position))
            .ok_or(Shortage::Room)?;
        if let Some((first, count)) = self.geometry().words_of(place) {
            self.map.fill(first, &vec![0; count]);
        }
        Ok(place)
    }

    /// The words of a chunk that can hold hints, the last one first.
    pub(crate) fn entries_of(&self, chunk: Place) -> Vec<usize> {
        self.geometry()
            .words_of(chunk)
            .map_or_else(Vec::new, |(first, count)| {
                (first + 1..first + count).rev().collect()
            })
    }

    /// Adds a hint at a member; in a hole of the list if there is one. Hints never move while their member stays.
    pub(crate) fn join(&mut self, group: u32, user: u32, generation: u64) -> Result<(), Shortage> {
        let Some((full, chunks)) = self
            .groups
            .get(&group)
            .map(|group| (group.holes.is_empty(), group.chunks.clone()))
        else {
            return Ok(());
        };
        if full {
            let chunk = self.empty_chunk(chunks.len())?;
            if let Some((last, _)) = chunks
                .last()
                .and_then(|&last| self.geometry().words_of(last))
            {
                self.map.store(last, chunk.bits());
            }
            let entries = self.entries_of(chunk);
            if let Some(group) = self.groups.get_mut(&group) {
                group.chunks.push(chunk);
                group.holes = entries;
            }
        }
        if let Some(group) = self.groups.get_mut(&group)
            && let Some(hole) = group.holes.pop()
        {
            self.map.store(hole, hint::new(generation, user));
            group.members.insert(user, hole);
        }
        Ok(())
    }

    /// Takes a member's hint out, and with the last one the group.
    pub(crate) fn leave(&mut self, slot: u32, user: u32) {
        let Some(group) = self.groups.get_mut(&slot) else {
            return;
        };
        if let Some(word) = group.members.remove(&user) {
            self.map.store(word, 0);
            group.holes.push(word);
        }
        if group.members.is_empty() {
            self.drop_group(slot);
        }
    }

    pub(crate) fn drop_group(&mut self, slot: u32) {
        let Some(group) = self.groups.remove(&slot) else {
            return;
        };
        self.by_group.remove(&group.spec);
        self.set_group_head(slot, 0);
        self.note_change();
        self.unhint_group(slot, &group.spec);
        self.free_record(group.record);
        for chunk in group.chunks {
            self.heap.give_back(chunk);
        }
        self.free_group_slot(slot);
    }
}
