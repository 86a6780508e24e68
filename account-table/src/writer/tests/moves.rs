//! Hints that the writer moves while somebody walks past them, step by step. In every order it is `model_check`'s.

use std::cell::RefCell;

use super::*;
use crate::layout::{Index, entry, hash_name};

#[test]
fn a_group_of_ours_whose_hint_is_moved_is_not_taken_for_one_of_others_with_its_name() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    let table = scratch.table();
    let hash = |name: &str| hash_name(table.seed(), name.as_bytes());
    let home = |name: &str| entry::home(hash(name), table.geometry().index_size());
    let first = (0..)
        .map(|number| format!("g{number}"))
        .find(|name| home(name) == home("dev"))
        .expect("a name");
    let of_others = GroupSpec {
        origin: GroupOrigin::Foreign,
        ..group("dev", 5001)
    };
    // Their hints stand in this order, one behind the other.
    for (number, group) in [group(&first, 5000), of_others, group("dev", 5002)]
        .into_iter()
        .enumerate()
    {
        let number = number as u32;
        let user = AccountSpec {
            groups: vec![group],
            ..spec(&format!("user{number}"), 1000 + number, 1)
        };
        writer.publish(&user).unwrap();
    }
    let writer = RefCell::new(writer);
    let found = table.find_shared_group(Index::GroupNames, hash("dev"), |group| {
        // Both of that name are moved by one place: the second is then behind who looks at the first.
        let _ = writer.borrow_mut().withdraw("user0").unwrap();
        group.name() == "dev"
    });
    assert_eq!(
        found.found().map(|group| (group.gid(), group.origin())),
        Some((5002, GroupOrigin::Synthesized))
    );
}
