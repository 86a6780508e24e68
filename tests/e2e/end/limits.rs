//! What a role says of resources: in the record, and applied by logind to the user's slice and by pam_systemd to the
//! session. Nobody inherits it.

use rig::Machine;

use crate::{IN_THE_END, ends, node};

/// What systemd holds the user's slice to. (Whether the kernel has the controllers is not of this place: a container may not.)
fn limits(machine: &Machine, uid: &str) -> String {
    let slice = format!("user-{uid}.slice");
    let show = machine.run(&[
        "systemctl",
        "show",
        &slice,
        "-p",
        "TasksMax",
        "-p",
        "MemoryMax",
        "-p",
        "CPUWeight",
    ]);
    let mut lines: Vec<&str> = show.must().lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn what_a_role_says_of_resources_holds_and_goes_with_its_user() {
    let node = node();
    let mut session = node
        .login("bruno")
        .roles("bounded")
        .hold("open")
        .command("umask; echo $FROM_ROLE; touch file; stat -c %a file")
        .start();
    session.reach("open");
    let uid = crate::uid(&node, "bruno");
    let set = limits(&node, &uid);
    assert_eq!(set, "CPUWeight=33\nMemoryMax=100663296\nTasksMax=77");
    let ended = session.finish();
    assert_eq!(ended.must_write(), "0027\nyes\n640");
    ends(&node, "bruno", &uid, std::time::Instant::now(), IN_THE_END);
    // The next under this login has the same UID, and none of it.
    let mut next = node
        .login("bruno")
        .user("bob")
        .hold("open")
        .command("umask; echo $FROM_ROLE.")
        .start();
    next.reach("open");
    assert_eq!(crate::uid(&node, "bruno"), uid);
    for (was, is) in set.lines().zip(limits(&node, &uid).lines()) {
        assert_ne!(was, is, "inherited");
    }
    assert_eq!(next.finish().must_write(), "0022\n.");
}
