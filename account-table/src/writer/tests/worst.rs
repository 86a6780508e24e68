//! Tables built to keep a reader busy: nobody is found, and how long that takes is printed (`make bench-hostile`).
//! What they do to a reader otherwise is `hostile.rs`' subject.

use std::fs::{File, OpenOptions};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::*;
use crate::layout::{
    Geometry, Head, Index, MAGIC, MAX_PROBE, MAX_RECORD_WORDS, Place, VERSION, entry, hash_id,
    hash_name, header, hint,
};
use crate::memory::as_room;
use crate::record::{group, user};

/// Who is asked for.
const NAME: &[u8] = b"alice";
const ID: u32 = 1000;
/// The seed of the files.
const SEED: u64 = 0;

/// A file with a sound header and whatever is put into it; the rest are holes, so that it may be large.
struct Forged {
    file: File,
    geometry: Geometry,
}

impl Forged {
    fn new(scratch: &Scratch, k: u32) -> Forged {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true);
        let file = file.open(scratch.path()).unwrap();
        let geometry = Geometry::new(k).unwrap();
        file.set_len(geometry.file_size() as u64).unwrap();
        let forged = Forged { file, geometry };
        forged.put(header::MAGIC, &[MAGIC]);
        forged.put(header::SHAPE, &[VERSION << 32 | u64::from(k)]);
        forged.put(header::SIZE, &[geometry.file_size() as u64]);
        forged.put(header::SEED, &[SEED]);
        forged.put(header::GENERATION, &[u64::MAX]);
        forged
    }

    fn put(&self, word: usize, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.file.write_all_at(&bytes, word as u64 * 8).unwrap();
    }

    fn put_at(&self, place: Place, words: &[u64]) {
        self.put(self.geometry.words_of(place).unwrap().0, words);
    }

    /// Every entry that a walk for `hash` may meet has its tag and points to another slot.
    fn crowd(&self, index: Index, hash: u64) {
        let (size, slots) = (self.geometry.index_size(), self.geometry.slots() as u32);
        for step in 0..MAX_PROBE {
            let at = (entry::home(hash, size) + step) & (size - 1);
            let slot = step as u32 % slots;
            self.put(
                self.geometry.index_base(index) + at,
                &[entry::new(hash, slot)],
            );
        }
    }

    fn head(&self, at: Option<usize>, place: Place) {
        self.put(at.unwrap(), &[Head::new(1, place).0]);
    }
}

/// The largest sound record of somebody else, with as many aliases as there can be, each to be compared.
fn somebody_else() -> Vec<u64> {
    let mut text = b"b\0\0\0\0".to_vec();
    text.extend(b"another-alias\0\0".repeat(127));
    text.resize((MAX_RECORD_WORDS - user::GROUPS - user::NUMBERS) * 8, 0);
    let mut words = vec![0; user::GROUPS];
    words[user::SHAPE] = user::KIND | 255 << 16 | (MAX_RECORD_WORDS as u64) << 48;
    words[user::IDS] = 1 | 1 << 32;
    words[user::LENGTHS] = 1;
    words.extend(
        text.chunks(8)
            .map(|word| u64::from_ne_bytes(word.try_into().unwrap())),
    );
    words.resize(MAX_RECORD_WORDS, 0);
    words
}

/// A group of that name and ID, with a list of members.
fn the_group(origin: GroupOrigin, members: u64) -> Vec<u64> {
    let mut words = vec![0; group::NAME + 1];
    words[group::SHAPE] = group::KIND | origin.code() << 8 | (NAME.len() as u64) << 16;
    words[group::GID] = ID.into();
    words[group::MEMBERS] = members;
    let mut name = [0; 8];
    name[..NAME.len()].copy_from_slice(NAME);
    words[group::NAME] = u64::from_ne_bytes(name);
    words
}

/// Everywhere somebody else, who has to be read in full to be told from the one asked for; and groups that are not ours to tell.
fn crowded(forged: &Forged) {
    let (record, group) = (Place::new(0, 64), Place::new(64, 64));
    forged.put_at(record, &somebody_else());
    forged.put_at(group, &the_group(GroupOrigin::Foreign, 0));
    for (index, hash) in [
        (Index::Names, hash_name(SEED, NAME)),
        (Index::Ids, hash_id(SEED, ID)),
        (Index::GroupNames, hash_name(SEED, NAME)),
        (Index::Gids, hash_id(SEED, ID)),
    ] {
        forged.crowd(index, hash);
    }
    for slot in 0..forged.geometry.slots().min(MAX_PROBE) as u32 {
        forged.head(forged.geometry.user_head(slot), record);
        forged.head(forged.geometry.group_head(slot), group);
    }
}

/// A group whose list of members, all of them somebody else, runs in a circle.
fn circular(forged: &Forged) {
    let (record, group, chunk) = (Place::new(0, 64), Place::new(64, 1), Place::new(128, 64));
    forged.put_at(record, &somebody_else());
    forged.put_at(group, &the_group(GroupOrigin::Synthesized, chunk.bits()));
    let mut list = vec![hint::new(1, 0); MAX_RECORD_WORDS];
    list[0] = chunk.bits();
    forged.put_at(chunk, &list);
    forged.head(forged.geometry.user_head(0), record);
    forged.head(forged.geometry.group_head(0), group);
    forged.crowd(Index::GroupNames, hash_name(SEED, NAME));
    forged.crowd(Index::Gids, hash_id(SEED, ID));
}

/// What is asked, and whether it finds anybody.
type Question<'a> = (&'static str, Box<dyn FnMut() -> bool + 'a>);

/// What a question takes: the quickest of some times, because what else runs on the machine only ever adds.
fn longest(questions: &mut [Question<'_>]) -> (Duration, &'static str) {
    let quickest = questions.iter_mut().map(|(what, ask)| {
        let once = |_| {
            let began = Instant::now();
            assert!(!ask(), "{what} is found");
            began.elapsed()
        };
        ((0..9).map(once).min().unwrap(), *what)
    });
    quickest.max().unwrap()
}

/// Whether anybody is told of in a group that is found; its members say themselves whether they are.
fn has_members(table: &Table, group: Lookup<Group>) -> bool {
    let Lookup::Found(group) = group else {
        return false;
    };
    let mut members = 0;
    let listed = table.member_logins(&group, |_| {
        members += 1;
        ControlFlow::Continue(())
    });
    assert_ne!(listed, Lookup::Busy);
    members > 0
}

#[test]
fn who_is_not_in_the_worst_of_tables_is_not_found() {
    let scratch = Scratch::new();
    for (name, forge) in [("crowded", crowded as fn(&Forged)), ("circular", circular)] {
        for k in [5, 10, 15, 20] {
            forge(&Forged::new(&scratch, k));
            let table = scratch.table();
            let (mut room, mut gids) = ([[0; 4096]; 4], [0; 16]);
            let [one, two, three, four] = &mut room;
            let mut questions: [Question<'_>; 7] = [
                (
                    "getpwnam",
                    Box::new(|| table.passwd_by_name(NAME, as_room(one)) != Lookup::Absent),
                ),
                (
                    "getpwuid",
                    Box::new(|| table.passwd_by_uid(ID, as_room(two)) != Lookup::Absent),
                ),
                (
                    "initgroups",
                    Box::new(|| table.memberships_by_name(NAME, &mut gids) != Lookup::Absent),
                ),
                (
                    "getgrnam, private",
                    Box::new(|| {
                        table.private_group_by_name(NAME, as_room(three)) != Lookup::Absent
                    }),
                ),
                (
                    "getgrgid, private",
                    Box::new(|| table.private_group_by_gid(ID, as_room(four)) != Lookup::Absent),
                ),
                (
                    "getgrnam, shared",
                    Box::new(|| has_members(&table, table.shared_group_by_name(NAME))),
                ),
                (
                    "getgrgid, shared",
                    Box::new(|| has_members(&table, table.shared_group_by_gid(ID))),
                ),
            ];
            let (took, what) = longest(&mut questions);
            println!("{name}, room for 2^{k} users: {took:?} at most, of {what}");
        }
    }
}
