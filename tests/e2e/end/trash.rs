//! What of a home cannot be removed at once: it goes by itself as soon as it can.

use std::time::Duration;

use rig::{Journal, node_alone};

use crate::BASE;

#[test]
fn what_cannot_be_removed_of_a_home_goes_once_it_can_without_a_login() {
    drop(crate::node());
    let node = node_alone();
    let journal = Journal::now(&node);
    let thrown = format!("{BASE}/.trash/777");
    // As a mount that could not be taken away; nothing enters it. And half a home, which the login has to throw away.
    node.sh(&format!(
        "mkdir -p {BASE}/.new-trixi/half {thrown}/a/b {thrown}/c && mount -t tmpfs tmpfs {thrown}/a/b && touch {thrown}/a/b/inside"
    ))
    .must();
    node.login("trixi").command("true").run().ran.must();
    node.within(
        Duration::from_secs(30),
        "it is said that it stays",
        |node| {
            let lines = journal.lines(&["-u", "teleport-sessiond"]);
            lines
                .iter()
                .any(|line| line.contains("cannot remove what old homes have left, trying again"))
                && !node.sh(&format!("test -e {thrown}/c")).succeeded()
        },
    );
    // The mount has been moved with the folder that it is on.
    node.sh(&format!(
        "test -e $(findmnt -rno TARGET | grep -F {thrown}/)/inside && umount $(findmnt -rno TARGET | grep -F {thrown}/)"
    ))
    .must();
    node.within(Duration::from_secs(60), "it goes by itself", |node| {
        !node.sh(&format!("test -e {thrown}")).succeeded()
    });
}
