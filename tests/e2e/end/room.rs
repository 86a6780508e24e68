//! One user fills the file system of ephemeral homes: the next has a home all the same.

use std::time::Instant;

use rig::node_alone;

use crate::{BASE, IN_THE_END, ends};

#[test]
fn one_user_filling_the_file_system_of_homes_does_not_keep_the_next_from_a_home() {
    drop(crate::node());
    let node = node_alone();
    let options = node
        .sh(&format!("findmnt -no OPTIONS {BASE}"))
        .must()
        .to_owned();
    node.sh(&format!("mount -o remount,size=16m,nr_inodes=2000 {BASE}"))
        .must();
    let fill = "i=0; while mkdir d$i 2>/dev/null; do i=$((i+1)); done; cat /dev/zero >big 2>/dev/null; \
                while : >f$i; do i=$((i+1)); done 2>/dev/null; df . | tail -n 1; echo full";
    let mut greedy = node
        .login("greta")
        .hold("open")
        .hold("close")
        .command(fill)
        .start();
    greedy.reach("open");
    let uid = crate::uid(&node, "greta");
    greedy.go_on();
    greedy.reach("close");
    // While it is full, and while what filled it is ended.
    let next: Vec<_> = (0..3)
        .map(|n| {
            let login = format!("next{n}");
            (
                login.clone(),
                node.login(&login).command("pwd; stat -c '%U %a' .").run(),
            )
        })
        .collect();
    let closed = Instant::now();
    let filled = greedy.finish();
    ends(&node, "greta", &uid, closed, IN_THE_END);
    let after = node
        .login("later")
        .command("echo x >file && cat file")
        .run();
    node.sh(&format!("mount -o remount,size=25%,nr_inodes=1m {BASE}"))
        .must();
    assert!(filled.written().ends_with("full"), "{filled:?} {options}");
    for (login, ended) in next {
        assert_eq!(
            ended.must_write(),
            format!("{BASE}/{login}\n{login} 700"),
            "{ended:?}"
        );
    }
    after.ran.must();
}

#[test]
fn a_home_that_takes_nearly_everything_is_not_kept_for_later_and_leaves_the_next_room_to_write() {
    drop(crate::node());
    let node = node_alone();
    node.sh(&format!("mount -o remount,size=16m,nr_inodes=2000 {BASE}"))
        .must();
    let small = node.login("smalla").command("echo kept >file").run();
    let closed = Instant::now();
    small.must_write();
    let uid = node.run(&["stat", "-c", "%u", &format!("{BASE}/smalla")]);
    ends(&node, "smalla", uid.must(), closed, IN_THE_END);
    let mut hog = node
        .login("hogo")
        .hold("open")
        .command("head -c 15m /dev/zero >big; stat -c %s big")
        .start();
    hog.reach("open");
    let uid = crate::uid(&node, "hogo");
    let hog = hog.finish();
    ends(&node, "hogo", &uid, Instant::now(), IN_THE_END);
    // It is thrown away first, and then emptied.
    let write = "until head -c 4m /dev/zero >mine; do sleep 0.2; done 2>/dev/null; stat -c %s mine";
    let next = node.login("nexta").command(write).run();
    let back = node.login("smalla").command("cat file").run();
    node.sh(&format!("mount -o remount,size=25%,nr_inodes=1m {BASE}"))
        .must();
    assert_eq!(hog.must_write(), "15728640");
    assert_eq!(next.must_write(), "4194304");
    assert_eq!(back.must_write(), "kept", "what was kept before stays");
}
