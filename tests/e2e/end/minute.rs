//! What cron and at would have run within the next minute.

use std::time::{Duration, Instant};

use crate::{IN_THE_END, ends, node};

#[test]
fn neither_cron_nor_at_run_what_a_user_left() {
    let node = node();
    // The file says that the job ran at all, while its user was there.
    let plant = "echo '* * * * * echo x >>/var/tmp/minna.ran; left minna' | crontab - && \
                 echo 'left minna' | at now + 1 minute 2>/dev/null; \
                 until test -e /var/tmp/minna.ran; do sleep 0.2; done; \
                 echo 'left minna' | at now + 1 minute 2>/dev/null";
    let mut session = node
        .login("minna")
        .hold("open")
        .hold("close")
        .command(plant)
        .start();
    session.reach("open");
    let uid = crate::uid(&node, "minna");
    session.go_on();
    session.reach("close");
    let closed = Instant::now();
    session.finish();
    ends(&node, "minna", &uid, closed, IN_THE_END);
    node.sh("rm -f /var/tmp/minna.alive /var/tmp/minna.ran")
        .must();
    std::thread::sleep(Duration::from_secs(125));
    let ran = node.sh("ls /var/tmp/minna.alive /var/tmp/minna.ran 2>/dev/null; :");
    assert_eq!(ran.must(), "");
    // The next under this login inherits neither.
    let next = node
        .login("minna")
        .user("bob")
        .command("crontab -l; atq")
        .run();
    assert!(next.written().contains("no crontab"), "{next:?}");
}
