//! What a role says of resources: in the record, and applied by logind to the user's slice and by pam_systemd to the
//! session. Nobody inherits it.

use crate::{bob, node};

/// What systemd holds the user's slice to. (Whether the kernel has the controllers is not of this place: a container may not.)
const LIMITS: &str =
    "systemctl show user-$(id -u).slice -p TasksMax -p MemoryMax -p CPUWeight | sort";

#[test]
fn what_a_role_says_of_resources_holds_and_goes_with_its_user() {
    let node = node();
    let command = format!("id -u; umask; echo $FROM_ROLE; touch file; stat -c %a file; {LIMITS}");
    let first = node
        .login("bruno")
        .roles("bounded")
        .command(&command)
        .run()
        .must_write();
    let (uid, first) = first.split_once('\n').expect("a UID");
    assert_eq!(
        first,
        "0027\nyes\n640\nCPUWeight=33\nMemoryMax=100663296\nTasksMax=77"
    );
    // The next under this login, who comes as soon as he may, has the same UID and none of it.
    let next = bob(&node, "bruno", "dev", &command).must_write();
    let of_a_stranger = node.login("berta").command(&command).run().must_write();
    let (_, defaults) = of_a_stranger.split_once('\n').expect("a UID");
    assert_eq!(next, format!("{uid}\n{defaults}"));
}
