//! With our services and sockets stopped: locals are as ever, what needs us is refused, and nothing hangs.

use std::time::{Duration, Instant};

use rig::{LOCAL_USER, Machine, node_alone};

const UNITS: [&str; 4] = [
    "teleport-sessiond.socket",
    "teleport-userdbd.socket",
    "teleport-sessiond.service",
    "teleport-userdbd.service",
];
/// A provider that accepts and does not answer would cost 45 s.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Our units stopped; started again when dropped, whatever the test found.
struct Outage<'m>(&'m Machine);

impl<'m> Outage<'m> {
    #[track_caller]
    fn of(machine: &'m Machine) -> Outage<'m> {
        let outage = Outage(machine);
        machine
            .run(&[&["systemctl", "stop"], &UNITS[..]].concat())
            .must();
        for unit in UNITS {
            assert_eq!(
                machine.run(&["systemctl", "is-active", unit]).stdout.trim(),
                "inactive",
                "{unit}"
            );
        }
        outage
    }
}

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        let started = self.0.run(&[&["systemctl", "start"], &UNITS[..]].concat());
        if !std::thread::panicking() {
            started.must();
        }
    }
}

#[track_caller]
fn lookups_answer_at_once(node: &Machine) {
    for command in [
        &["getent", "passwd", LOCAL_USER][..],
        &["getent", "passwd", "nobody-has-this-name"],
        &["getent", "passwd", "1879048200"],
        &["getent", "group", "nobody-has-this-name"],
        &["getent", "group", "1879048200"],
        &["getent", "passwd"],
        &["getent", "group"],
        &["id", LOCAL_USER],
        &["userdbctl", "user", LOCAL_USER],
        &["userdbctl", "user", "nobody-has-this-name"],
        &["userdbctl", "user"],
    ] {
        let ran = node.run(command);
        assert!(ran.elapsed < AT_ONCE, "{ran}");
    }
}

#[test]
fn with_our_services_stopped_local_users_log_in_as_ever() {
    let node = node_alone();
    let outage = Outage::of(&node);
    for service in ["local", "teleport"] {
        let began = Instant::now();
        let ended = node
            .login(LOCAL_USER)
            .service(service)
            .command("id -un; exit 5")
            .run();
        ended.ran.must_end_with(5);
        assert_eq!(ended.written(), LOCAL_USER, "{}", ended.ran);
        assert!(began.elapsed() < Duration::from_secs(10), "{}", ended.ran);
    }
    drop(outage);
}

#[test]
fn with_our_services_stopped_a_teleport_login_is_refused_with_a_sentence() {
    let node = node_alone();
    let outage = Outage::of(&node);
    let ended = node.login("paula").run();
    assert_eq!(ended.code("account"), Some("AUTHINFO_UNAVAIL"), "{ended:?}");
    assert!(
        matches!(ended.messages()[..], [sentence] if sentence.ends_with('.')),
        "one sentence was expected: {:?}",
        ended.messages()
    );
    assert!(ended.ran.elapsed < Duration::from_secs(8), "{}", ended.ran);
    drop(outage);
    node.login("paula").command("true").run().ran.must();
}

/// What the login of a user of the host, and that of one to be made, come to.
#[track_caller]
fn only_local_users_log_in(node: &Machine, stranger: &str, trouble: &str) {
    let ended = node.login(LOCAL_USER).command("exit 5").run();
    assert_eq!(ended.code("open"), Some("SUCCESS"), "{trouble}: {ended:?}");
    ended.ran.must_end_with(5);
    let ended = node.login(stranger).run();
    let refused = Some("PERM_DENIED");
    assert_eq!(ended.code("account"), refused, "{trouble}: {ended:?}");
}

#[test]
fn while_nobody_can_be_asked_local_users_log_in_as_ever() {
    let node = node_alone();
    // The workers, too: one that is connected goes on without the socket.
    let workers = ["teleport-lookup.socket", "teleport-lookup@*.service"];
    node.run(&["systemctl", "stop", workers[0], workers[1]])
        .must();
    only_local_users_log_in(&node, "pernilla", "without lookup workers");
    node.run(&["systemctl", "start", "teleport-lookup.socket"])
        .must();
    // A fact of the host that cannot be had: a folder where a file belongs.
    node.sh("mv /etc/subuid /etc/subuid.kept; mkdir /etc/subuid")
        .must();
    only_local_users_log_in(&node, "pernilla", "without subuid");
    node.sh("rmdir /etc/subuid; mv /etc/subuid.kept /etc/subuid || :")
        .must();
    // A byte that is none of UTF-8's, where it means nothing, keeps nobody out.
    node.sh("cp -p /etc/nsswitch.conf /root/; printf '# caf\\351\\n' >>/etc/nsswitch.conf")
        .must();
    node.login("pernilla").command("true").run().ran.must();
    node.sh("cat /root/nsswitch.conf >/etc/nsswitch.conf")
        .must();
}

#[test]
fn with_our_services_stopped_no_lookup_hangs() {
    let node = node_alone();
    let outage = Outage::of(&node);
    lookups_answer_at_once(&node);
    drop(outage);
    lookups_answer_at_once(&node);
}

#[test]
fn with_our_services_stopped_a_session_can_still_be_closed() {
    let node = node_alone();
    let mut login = node.login("pelle").hold("open").start();
    login.reach("open");
    let outage = Outage::of(&node);
    let ended = login.finish();
    ended.ran.must();
    assert_eq!(ended.code("close"), Some("SUCCESS"), "{ended:?}");
    drop(outage);
    node.within(
        Duration::from_secs(30),
        "a restarted daemon drops who left meanwhile",
        |node| crate::is_gone(node, "pelle"),
    );
}
