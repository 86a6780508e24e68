//! Files no writer has written: nothing found, no panic, no signal, no endless walk, and a writer that makes a new one.

use std::fs;
use std::time::Instant;

use super::*;
use crate::Cursor;
use crate::layout::{Geometry, MAGIC, Place, VERSION, header};
use crate::memory::as_room;

/// Asks a table everything there is to ask.
pub(super) fn ask_everything(table: &Table) {
    let mut groups = Vec::new();
    for name in [&b"alice"[..], b"Alice", b"dev", b"ops", b"nobody", b""] {
        groups.extend(table.group_by_name(name).found());
        if let Lookup::Found(account) = table.user_by_name(name) {
            touch(table, &account);
        }
    }
    for id in [0, 1000, 1001, 3000, 3001, u32::MAX] {
        groups.extend(table.group_by_gid(id).found());
        if let Lookup::Found(account) = table.user_by_uid(id) {
            touch(table, &account);
        }
    }
    let mut cursor = Cursor::default();
    while let Lookup::Found(account) = table.next_user(&mut cursor) {
        touch(table, &account);
    }
    let mut cursor = Cursor::default();
    while let Lookup::Found(group) = table.next_group(&mut cursor) {
        groups.push(group);
    }
    for group in groups {
        let _ = table.members(&group, |account| {
            touch(table, account);
            std::ops::ControlFlow::Continue(())
        });
    }
    ask_directly(table);
    let _ = (table.changes(), table.is_retired());
}

/// The same through the lookups that write into a buffer, which must not say more than the others and end what they write.
fn ask_directly(table: &Table) {
    let mut room = [0xee; 4096];
    let mut gids = [0; 16];
    for name in [&b"alice"[..], b"Alice", b"dev", b"nobody", b""] {
        if let Lookup::Found(Ok(found)) = table.passwd_by_name(name, as_room(&mut room)) {
            check_strings(&room, &found.starts);
        }
        if let Lookup::Found(Ok(_)) = table.private_group_by_name(name, as_room(&mut room)) {
            check_strings(&room, &[]);
        }
        if let Lookup::Found(Ok(found)) = table.memberships_by_name(name, &mut gids) {
            assert!(found.count <= gids.len());
        }
    }
    for id in [0, 1000, 1001, 3000, u32::MAX] {
        if let Lookup::Found(Ok(found)) = table.passwd_by_uid(id, as_room(&mut room)) {
            assert_eq!(found.uid, id);
            check_strings(&room, &found.starts);
        }
        if let Lookup::Found(Ok(found)) = table.private_group_by_gid(id, as_room(&mut room)) {
            assert_eq!(found.gid, id);
            check_strings(&room, &[]);
        }
    }
}

/// One string from each start on, with a NUL at its end and nowhere before.
fn check_strings(bytes: &[u8], starts: &[usize]) {
    let mut at = 0;
    for &next in starts {
        at += bytes[at..]
            .iter()
            .position(|&byte| byte == 0)
            .expect("a NUL")
            + 1;
        assert_eq!(at, next, "a NUL inside a string, or none at its end");
    }
    let last = bytes[at..]
        .iter()
        .position(|&byte| byte == 0)
        .expect("a NUL");
    assert!(std::str::from_utf8(&bytes[..at + last]).is_ok());
}

fn touch(table: &Table, account: &Account) {
    for text in [
        account.login(),
        account.gecos(),
        account.home(),
        account.shell(),
    ] {
        assert!(!text.contains('\0'));
    }
    assert!(account.aliases().chain(account.environment()).count() < 512);
    for membership in account.groups() {
        let _ = table.group_of(&membership).found();
    }
    let _ = format!(
        "{account:?} {:?} {:?}",
        account.umask(),
        account.disposition()
    );
}

pub(super) fn small_good_file() -> (Scratch, Vec<u8>) {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    let groups = vec![group("dev", 3000), group("ops", 3001)];
    for (login, uid) in [("alice", 1000), ("bob", 1001), ("carol", 1002)] {
        let aliases = vec![login.to_uppercase()];
        let environment = vec!["A=1".into(), "B=2".into()];
        let user = AccountSpec {
            aliases,
            environment,
            groups: groups.clone(),
            ..spec(login, uid, 1)
        };
        writer.publish(&user).unwrap();
    }
    let bytes = fs::read(scratch.path()).unwrap();
    (scratch, bytes)
}

/// Puts a file in place as a whole, as a hostile root might; mapped files are never changed underneath.
fn put(scratch: &Scratch, bytes: &[u8]) {
    let temporary = scratch.folder.join("hostile");
    fs::write(&temporary, bytes).unwrap();
    fs::rename(temporary, scratch.path()).unwrap();
}

fn with_header(k: u32, fill: u8) -> Vec<u8> {
    let geometry = Geometry::new(k).unwrap();
    let mut bytes = vec![fill; geometry.file_size()];
    for (word, value) in [
        (header::MAGIC, MAGIC),
        (header::SHAPE, VERSION << 32 | u64::from(k)),
        (header::SIZE, geometry.file_size() as u64),
        (header::RETIRED, 0),
    ] {
        bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

#[test]
fn files_of_wrong_size_or_header_are_no_tables() {
    let (scratch, good) = small_good_file();
    let mut wrong = vec![
        vec![],
        vec![0],
        vec![0xff; 4096],
        vec![0xff; good.len()],
        vec![0; good.len()],
    ];
    wrong.push(good[..good.len() - 4096].to_vec());
    wrong.push([&good[..], &[0; 4096]].concat());
    wrong.push(good[..100].to_vec());
    for word in [header::MAGIC, header::SHAPE, header::SIZE] {
        let mut bytes = good.clone();
        bytes[word * 8 + 1] ^= 1;
        wrong.push(bytes);
    }
    for bytes in wrong {
        put(&scratch, &bytes);
        assert!(
            Table::open(&scratch.c_path(), scratch.trust).is_none(),
            "{} bytes",
            bytes.len()
        );
        let writer = scratch.small_writer(4);
        assert!(writer.logins().is_empty());
        assert!(matches!(
            scratch.table().user_by_name(b"alice"),
            Lookup::Absent
        ));
    }
}

#[test]
fn any_content_behind_a_sound_header_is_answered_in_bounded_time() {
    let scratch = Scratch::new();
    for k in [4, 6, 10, 13] {
        for fill in [0xff, 0x01, 0x80, 0x41, 0x07] {
            put(&scratch, &with_header(k, fill));
            let started = Instant::now();
            ask_everything(&scratch.table());
            assert!(
                started.elapsed().as_secs() < 20,
                "{k} {fill:x}: {:?}",
                started.elapsed()
            );
            assert!(scratch.small_writer(4).logins().is_empty());
        }
    }
}

#[test]
fn a_member_list_that_runs_in_a_circle_ends() {
    let (scratch, good) = small_good_file();
    let geometry = Geometry::new(4).unwrap();
    let mut words: Vec<u64> = good
        .chunks_exact(8)
        .map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap()))
        .collect();
    let head = words[geometry.group_head(0).unwrap()];
    let (record, _) = geometry
        .words_of(crate::layout::Head(head).place())
        .unwrap();
    let link = words[record + crate::record::group::MEMBERS];
    let (chunk, _) = geometry.words_of(Place::from_bits(link)).unwrap();
    words[chunk] = link;
    put(
        &scratch,
        &words
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect::<Vec<_>>(),
    );
    ask_everything(&scratch.table());
    assert!(
        scratch.small_writer(4).logins().is_empty(),
        "such a file is replaced"
    );
}

#[test]
fn a_good_file_with_any_one_byte_changed_harms_neither_readers_nor_the_next_writer() {
    let (scratch, good) = small_good_file();
    let mut adopted = 0;
    // Empty regions are long; every byte that says something is changed in three ways, every 64th of the rest.
    for at in (0..good.len()).filter(|&at| good[at & !7..][..8] != [0; 8] || at % 64 == 0) {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            put(&scratch, &bytes);
            if let Some(table) = Table::open(&scratch.c_path(), scratch.trust) {
                ask_everything(&table);
            }
            let mut writer = scratch.small_writer(4);
            adopted += usize::from(writer.logins().len() == 3);
            ask_everything(&scratch.table());
            writer.publish(&spec("dave", 0x7000_1234, 1)).unwrap();
            assert!(matches!(
                scratch.table().user_by_uid(0x7000_1234),
                Lookup::Found(_)
            ));
            writer.retain(|_| false);
            assert!(writer.is_empty_throughout());
        }
    }
    assert!(adopted > 0, "some changes are harmless");
}

#[test]
fn readers_of_a_damaged_file_are_sent_to_the_new_one() {
    let (scratch, mut bytes) = small_good_file();
    // The second slot's head points to the first one's record: two accounts of one name.
    let geometry = Geometry::new(4).unwrap();
    let (first, second) = (
        geometry.user_head(0).unwrap() * 8,
        geometry.user_head(1).unwrap() * 8,
    );
    bytes.copy_within(first..first + 8, second);
    put(&scratch, &bytes);
    let handle = scratch.table();
    assert!(matches!(handle.user_by_name(b"alice"), Lookup::Found(_)));
    let writer = scratch.writer();
    assert!(handle.is_retired());
    assert!(writer.logins().is_empty());
}
