//! Many sessions end at once: however slow logind and systemd are then, whatever is left has SIGTERM, and its time.

use std::time::Duration;

use rig::{Suite, boot_node};

use crate::common::IN_THE_END;
use crate::told::{configure, times};

const MANY: usize = 160;
/// So many come at a time.
const AT_ONCE: usize = 16;
/// From SIGTERM to SIGKILL, in seconds.
const TIME: f64 = 5.0;

#[test]
fn of_a_crowd_that_ends_at_once_nobody_is_killed_without_sigterm() {
    let machine = boot_node(Suite::chosen().expect("a release")).expect("a machine");
    configure(&machine, &format!("{TIME}s"), "3s");
    let logins: Vec<String> = (0..MANY).map(|nth| format!("crowd{nth}")).collect();
    let mut sessions = Vec::new();
    for some in logins.chunks(AT_ONCE) {
        let came = sessions.len();
        sessions.extend(some.iter().map(|login| {
            let leaves = format!(
                "setsid -f told {login} 1 </dev/null >/dev/null 2>&1; until test -e /var/tmp/go; do sleep 1; done"
            );
            machine.login(login).hold("command").command(&leaves).start()
        }));
        for session in &mut sessions[came..] {
            session.reach("command").go_on();
        }
    }
    let alive = "ls /var/tmp/crowd*.alive | wc -l";
    machine.within(IN_THE_END, "all have left something", |machine| {
        machine.sh(alive).must() == MANY.to_string()
    });
    machine.sh("touch /var/tmp/go").must();
    machine.within(IN_THE_END * 3, "what they left is dead", |machine| {
        std::thread::sleep(Duration::from_secs(1));
        !machine.run(&["pgrep", "-x", "told"]).succeeded()
    });
    for login in &logins {
        let signals = times(&machine, &format!("{login}.term"));
        assert_eq!(signals.len(), 1, "{login}: {signals:?}");
        let alive = times(&machine, &format!("{login}.alive"));
        let time = alive.last().expect("it was alive") - signals[0];
        // It wrote every second.
        assert!(time > TIME - 1.5, "{login}: {time}");
    }
}
