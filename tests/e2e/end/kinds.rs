//! Everything that a session can leave behind: without root at once, gone in time, its command's exit status unharmed.

use std::time::Duration;

use rig::Machine;

use crate::{ends, node};

/// From the last close to nothing: `retire-delay`, `stop-timeout` and a second, which is for the work. It takes longer where
/// processes wait for each other.
fn nothing_left() -> Duration {
    let waits = Duration::from_secs(3 + 5);
    let load = std::fs::read_to_string("/proc/loadavg").expect("the kernel tells its load");
    let load: f64 = load
        .split(' ')
        .next()
        .and_then(|load| load.parse().ok())
        .expect("a number");
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    waits + Duration::from_secs(1).mul_f64(1.0 + load / processors as f64)
}

/// Whether no name service knows the login.
fn is_withdrawn(machine: &Machine, login: &str) -> bool {
    machine.run(&["id", login]).status == 1
        && machine.run(&["getent", "passwd", login]).status == 2
        && machine.run(&["getent", "group", login]).status == 2
}

/// A session with the right to be root that leaves something behind, to its very end.
#[track_caller]
fn leaves(login: &str, leaving: &str) {
    leaves_and(login, leaving, |_, _| {});
}

#[track_caller]
fn leaves_and(login: &str, leaving: &str, planted: impl FnOnce(&Machine, &str)) {
    let node = node();
    let session = node
        .login(login)
        .roles("admin")
        .hold("open")
        .hold("command")
        .hold("close")
        // It goes on only when it is there, and what it left behind is at work.
        .command(&format!(
            "{leaving}\nuntil test -e /var/tmp/{login}.go; do sleep 0.1; done; exit 7"
        ));
    let mut session = session.start();
    session.reach("open");
    let uid = crate::uid(&node, login);
    session.go_on();
    session.reach("command");
    session.go_on();
    planted(&node, &uid);
    node.sh(&format!("touch /var/tmp/{login}.go")).must();
    session.reach("close");
    let closed = std::time::Instant::now();
    assert!(is_withdrawn(&node, login), "known after its last close");
    // What began before may have written since; from now on nothing may.
    node.sh(&format!(
        "sleep 0.3; rm -f /var/tmp/{login}.root /var/tmp/{login}.group"
    ))
    .must();
    let ended = session.finish();
    ended.ran.must_end_with(7);
    ends(&node, login, &uid, closed, nothing_left());
    for right in ["root", "group"] {
        let had = node.sh(&format!("test -e /var/tmp/{login}.{right}"));
        assert!(
            !had.succeeded(),
            "a process left behind had the right {right}"
        );
    }
}

/// Waits until what was left behind is at work, with its rights.
#[track_caller]
fn at_work(machine: &Machine, name: &str) {
    machine.within(
        Duration::from_secs(20),
        "what is left behind has begun, and is root",
        |machine| {
            machine
                .sh(&format!(
                    "test -e /var/tmp/{name}.root && test -e /var/tmp/{name}.group"
                ))
                .succeeded()
        },
    );
}

fn nohup() {
    leaves_and("nora", "nohup left nora >/dev/null 2>&1 &", |node, _| {
        at_work(node, "nora");
    });
}

fn a_session_of_its_own() {
    leaves_and(
        "sven",
        "setsid -f left sven </dev/null >/dev/null 2>&1",
        |node, _| {
            at_work(node, "sven");
        },
    );
}

fn a_double_fork() {
    leaves_and(
        "dora",
        "(setsid sh -c 'left dora & exit' </dev/null >/dev/null 2>&1 &) &",
        |node, _| at_work(node, "dora"),
    );
}

fn a_process_that_ignores_every_signal_it_can() {
    leaves_and(
        "igor",
        "setsid -f left igor TERM INT QUIT USR1 USR2 </dev/null >/dev/null 2>&1",
        |node, _| at_work(node, "igor"),
    );
}

fn a_process_outside_of_everything_that_logind_knows() {
    leaves_and("otis", ":", |node, uid| {
        // As one that cron, at or a container manager has started.
        node.sh(&format!(
            "setsid -f setpriv --reuid={uid} --regid={uid} --init-groups left otis TERM </dev/null >/dev/null 2>&1"
        ))
        .must();
        at_work(node, "otis");
    });
}

/// In the session's scope, which systemd ends for good after a minute and a half only: nobody could come in until then.
fn a_process_of_roots_that_ignores_signals() {
    leaves_and("rita", ":", |node, uid| {
        // As sudo leaves one.
        node.sh(&format!(
            "setsid -f sh -c 'trap \"\" TERM HUP; echo $$ >$(echo /sys/fs/cgroup/user.slice/user-{uid}.slice/session-*.scope)/cgroup.procs; \
             while :; do sleep 1; done' </dev/null >/dev/null 2>&1"
        ))
        .must();
        node.within(Duration::from_secs(20), "it is in the scope", |node| {
            node.sh(&format!(
                "for pid in $(pgrep -U 0 -x sh); do grep user-{uid}.slice /proc/$pid/cgroup; done | grep -q scope"
            ))
            .succeeded()
        });
    });
}

fn a_service_of_its_user_manager() {
    leaves_and(
        "susi",
        "systemd-run --user --quiet left susi TERM",
        |node, _| {
            at_work(node, "susi");
        },
    );
}

fn lingering() {
    leaves_and(
        "lina",
        "setsid -f left lina </dev/null >/dev/null 2>&1",
        |node, _| {
            at_work(node, "lina");
            // Where logind cannot, in a container, the file says it.
            node.sh("loginctl enable-linger lina || touch /var/lib/systemd/linger/lina")
                .must();
        },
    );
}

fn a_crontab_and_jobs_of_at() {
    leaves_and(
        "cora",
        "echo '* * * * * left cora' | crontab - && echo 'left cora' | at now + 1 minute 2>/dev/null",
        |node, uid| {
            node.within(
                Duration::from_secs(30),
                "crontab and job are there",
                |node| {
                    node.sh(&format!(
                        "test -e /var/spool/cron/crontabs/cora && find /var/spool/cron/atjobs -uid {uid} | grep -q ."
                    ))
                    .succeeded()
                },
            );
        },
    );
}

/// As they lie on Fedora, SUSE and Arch. The folders come up after teleport-sessiond did, as those of a package that is
/// installed later.
fn crontabs_and_jobs_where_others_have_them() {
    leaves_and("fedo", ":", |node, uid| {
        node.sh(&format!(
            "cd /var/spool && mkdir -m 0700 at atjobs atd cron/tabs && touch at/a1 atjobs/a2 atd/a3 at/others cron/tabs/fedo cron/fedo && \
             chown {uid} at/a1 atjobs/a2 atd/a3 cron/tabs/fedo cron/fedo && chown daemon: at && chown 4242 at/others"
        ))
        .must();
    });
    let kept = node().sh("find /var/spool -user 4242");
    assert_eq!(kept.must(), "/var/spool/at/others");
}

/// As sudo (by login until 1.9.15, by UID since) and sudo-rs write them. The folders are there from the boot on, whether
/// or not a sudo was: teleport-sessiond reaches none that appears later.
fn what_sudo_remembers_of_a_password() {
    leaves_and("tess", ":", |node, uid| {
        node.sh(&format!(
            "mkdir -pm 0700 /run/sudo/ts /run/sudo-rs/ts && touch /run/sudo/ts/tess /run/sudo/ts/{uid} /run/sudo-rs/ts/{uid}"
        ))
        .must();
    });
}

/// Nothing can end it but its parent, which is root's and does not care. It keeps nobody from the login.
fn a_zombie_whose_parent_does_not_wait_for_it() {
    let node = node();
    let mut session = node.login("zora").hold("open").hold("close").start();
    session.reach("open");
    let uid = crate::uid(&node, "zora");
    session.go_on();
    session.reach("close");
    node.sh(&format!(
        "setsid -f setpriv --reuid={uid} --regid={uid} --clear-groups --inh-caps=-all sleep 300 </dev/null >/dev/null 2>&1; \
         setsid -f sh -c 'setpriv --reuid={uid} --regid={uid} --clear-groups true & exec sleep 60' </dev/null >/dev/null 2>&1"
    ))
    .must();
    node.within(Duration::from_secs(30), "there is a zombie", |node| {
        node.sh(&format!("ps -o stat= -U {uid} | grep -q Z"))
            .succeeded()
    });
    session.finish();
    let next = crate::bob(
        &node,
        "zora",
        "dev",
        &format!("ps -o stat= -U {uid} | grep -c Z; pgrep -c -x sleep -U {uid}"),
    );
    assert_eq!(
        next.written(),
        "1\n0",
        "the zombie is there still, and nothing else"
    );
}

fn ipc_objects() {
    leaves(
        "ipke",
        "ipcmk -M 4096 -Q -S 1 && echo x >/dev/shm/ipke && mkdir /dev/shm/ipke.d && : >/dev/shm/ipke.d/x && : >/dev/mqueue/ipke",
    );
}

#[test]
fn whatever_a_session_leaves_behind_loses_its_rights_at_once_and_ends_in_time() {
    crate::side_by_side(&[
        ("nohup", nohup),
        ("a session of its own", a_session_of_its_own),
        ("a double fork", a_double_fork),
        (
            "a process that ignores every signal it can",
            a_process_that_ignores_every_signal_it_can,
        ),
        (
            "a process outside of everything that logind knows",
            a_process_outside_of_everything_that_logind_knows,
        ),
        (
            "a process of root's that ignores signals",
            a_process_of_roots_that_ignores_signals,
        ),
        (
            "a service of its user manager",
            a_service_of_its_user_manager,
        ),
        ("lingering", lingering),
        ("a crontab and jobs of at", a_crontab_and_jobs_of_at),
        (
            "crontabs and jobs where others have them",
            crontabs_and_jobs_where_others_have_them,
        ),
        (
            "what sudo remembers of a password",
            what_sudo_remembers_of_a_password,
        ),
        (
            "a zombie whose parent does not wait for it",
            a_zombie_whose_parent_does_not_wait_for_it,
        ),
        ("ipc objects", ipc_objects),
    ]);
}
