//! A configuration that changes under live sessions: reloaded, wrong, wrong at start, and as `--check` sees it.

use std::time::Duration;

use rig::{Ended, Journal, LOCAL_USER, Machine, node_alone};

const FILE: &str = "/etc/teleport-userdb/config.d/50-reload.toml";
const SESSIOND: &str = "teleport-sessiond.service";
/// The second line is wrong.
const WRONG: &str = "gecos = \"never to be seen\"\nretyre-delay = \"3s\"\n";

/// Our drop-in and the daemon with it; taken back when dropped, whatever the test found.
struct Changed<'m>(&'m Machine);

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        let _ = self.0.run(&["rm", "-f", FILE]);
        let _ = self.0.run(&["systemctl", "restart", SESSIOND]);
    }
}

fn change<'m>(node: &'m Machine, text: &str, verb: &str) -> Changed<'m> {
    let changed = Changed(node);
    node.write(FILE, text);
    let told = node.run(&["systemctl", verb, SESSIOND]);
    assert!(
        verb != "reload" || told.succeeded() == (text != WRONG),
        "{told}"
    );
    changed
}

fn gecos(node: &Machine, login: &str) -> String {
    let line = node.run(&["getent", "passwd", login]);
    line.must().split(':').nth(4).unwrap_or_default().to_owned()
}

/// The sentence with file, line and key.
#[track_caller]
fn must_name_the_place(text: &str) {
    for part in [FILE, "2", "retyre-delay"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[track_caller]
fn must_be_told_in(journal: &Journal<'_>) {
    let lines = journal.lines(&["-u", SESSIOND]).join("\n");
    must_name_the_place(&lines);
}

fn messages(ended: &Ended) -> String {
    ended.messages().join("\n")
}

#[test]
fn a_wrong_configuration_on_reload_changes_nothing_and_is_told_in_the_journal() {
    let node = node_alone();
    let mut live = node.login("rosa").hold("open").start();
    live.reach("open");
    let before = node.run(&["getent", "passwd", "rosa"]).must().to_owned();
    let journal = Journal::now(&node);
    let changed = change(&node, WRONG, "reload");
    must_be_told_in(&journal);
    assert_eq!(node.run(&["getent", "passwd", "rosa"]).must(), before);
    let mut new = node.login("rolf").hold("open").start();
    new.reach("open");
    assert_ne!(gecos(&node, "rolf"), "never to be seen");
    new.finish().ran.must();
    live.finish().ran.must();
    drop(changed);
}

#[test]
fn a_good_configuration_holds_for_new_sessions_and_a_live_one_keeps_its_plan() {
    let node = node_alone();
    let mut live = node.login("rita").hold("open").start();
    live.reach("open");
    let before = node.run(&["getent", "passwd", "rita"]).must().to_owned();
    let groups = node.run(&["id", "rita"]).must().to_owned();
    let text = "gecos = \"after the reload\"\n[[role]]\nmatch = \"dev\"\ngroups = [\"reloaded\"]\n";
    let changed = change(&node, text, "reload");
    let mut new = node.login("ruth").hold("open").start();
    new.reach("open");
    assert_eq!(gecos(&node, "ruth"), "after the reload");
    assert!(node.run(&["id", "ruth"]).must().contains("reloaded"));
    for verb in ["reload", "restart"] {
        node.run(&["systemctl", verb, SESSIOND]).must();
        // Answered only once what was written down has been taken up.
        node.run(&["teleport-userdbctl", "sessions"]).must();
        assert_eq!(
            node.run(&["getent", "passwd", "rita"]).must(),
            before,
            "{verb}"
        );
        assert_eq!(node.run(&["id", "rita"]).must(), groups, "{verb}");
    }
    new.finish().ran.must();
    live.finish().ran.must();
    drop(changed);
}

/// Roles for two Teleport users on one login, who may what then.
fn shared(rule: &str, retire_delay: &str) -> String {
    format!(
        "retire-delay = \"{retire_delay}\"\nlogins.shared = \"{rule}\"\n[[role]]\nmatch = \"ops\"\nsudo = true\n"
    )
}

#[test]
fn a_live_login_keeps_the_rule_it_is_shared_under_over_reload_and_restart() {
    let node = node_alone();
    let changed = change(&node, &shared("union", "3s"), "restart");
    let by = |user: &str, login: &str, roles: &str| {
        node.login(login)
            .user(user)
            .roles(roles)
            .command("sudo -n id -un")
            .run()
    };
    let mut live = node
        .login("rike")
        .user("ann")
        .roles("ops")
        .hold("open")
        .start();
    live.reach("open");
    assert_eq!(by("bea", "rike", "dev").must_write(), "root", "a union");
    node.write(FILE, &shared("never", "3s"));
    for verb in ["reload", "restart"] {
        node.run(&["systemctl", verb, SESSIOND]).must();
        node.run(&["teleport-userdbctl", "sessions"]).must();
        let joined = by("bea", "rike", "dev");
        assert_eq!(joined.must_write(), "root", "{verb}: {joined:?}");
        // Who comes into being now does so under the new rule.
        let mut other = node
            .login("rolf")
            .user("ann")
            .roles("ops")
            .hold("open")
            .start();
        other.reach("open");
        let refused = by("bea", "rolf", "ops");
        assert_eq!(refused.code("account"), Some("PERM_DENIED"), "{refused:?}");
        assert!(messages(&refused).contains("\"never\""), "{refused:?}");
        other.finish().ran.must();
    }
    live.finish().ran.must();
    drop(changed);
}

#[test]
fn a_wrong_configuration_at_start_ends_nobody_sooner_than_they_came_under() {
    let node = node_alone();
    let changed = change(&node, &shared("union", "9s"), "restart");
    let mut live = node
        .login("runhild")
        .roles("ops")
        .hold("command")
        .command("setsid sleep 300 </dev/null >/dev/null 2>&1 & exit 0")
        .start();
    live.reach("command");
    let uid = node.run(&["id", "-u", "runhild"]).must().to_owned();
    node.write(FILE, WRONG);
    let _ = node.run(&["systemctl", "restart", SESSIOND]);
    let record = node.run(&["userdbctl", "user", "-j", "runhild"]);
    let record: serde_json::Value = serde_json::from_str(record.must()).expect("a record");
    assert_eq!(record["stopDelayUSec"], 9_000_000, "{record}");
    live.finish().ran.must();
    // Longer than what holds where nothing is configured.
    std::thread::sleep(std::time::Duration::from_secs(5));
    node.run(&["pgrep", "-U", &uid, "sleep"]).must();
    node.within(
        std::time::Duration::from_secs(40),
        "what it left has ended",
        |node| !node.run(&["pgrep", "-U", &uid]).succeeded(),
    );
    drop(changed);
}

#[test]
fn a_wrong_configuration_at_start_refuses_teleport_logins_and_leaves_locals_alone() {
    let node = node_alone();
    let mut live = node.login("robin").hold("open").start();
    live.reach("open");
    let before = node.run(&["getent", "passwd", "robin"]).must().to_owned();
    let journal = Journal::now(&node);
    let changed = change(&node, WRONG, "restart");
    must_be_told_in(&journal);
    let status = node.run(&["systemctl", "show", "-P", "StatusText", SESSIOND]);
    assert!(status.must().contains("nobody new is let in"), "{status}");
    assert_eq!(node.run(&["getent", "passwd", "robin"]).must(), before);
    let refused = node.login("roger").run();
    assert_eq!(refused.code("account"), Some("PERM_DENIED"), "{refused:?}");
    must_name_the_place(&messages(&refused));
    let local = node
        .login(LOCAL_USER)
        .service("local")
        .command("id -un")
        .run();
    assert_eq!(local.must_write().trim(), LOCAL_USER);
    live.finish().ran.must();
    drop(changed);
    node.login("roger").command("true").run().ran.must();
}

#[test]
fn a_file_that_could_not_be_read_at_the_start_is_read_as_soon_as_it_can_be() {
    let node = node_alone();
    node.run(&["ln", "-s", "/no/such/file", FILE]).must();
    let changed = Changed(&node);
    node.run(&["systemctl", "restart", SESSIOND]).must();
    let refused = node.login("ruben").run();
    assert_eq!(refused.code("account"), Some("PERM_DENIED"), "{refused:?}");
    node.run(&["rm", FILE]).must();
    node.within(
        std::time::Duration::from_secs(60),
        "it is read without a reload",
        |node| node.login("ruben").command("true").run().ran.succeeded(),
    );
    drop(changed);
}

#[test]
fn the_shell_says_the_same_as_the_journal() {
    let node = node_alone();
    let check = ["/usr/libexec/teleport-sessiond", "--check"];
    node.run(&check).must();
    node.write(FILE, WRONG);
    let daemon = node.run(&check);
    let ctl = node.run(&["teleport-userdbctl", "check"]);
    node.run(&["rm", FILE]).must();
    daemon.must_end_with(1);
    must_name_the_place(&daemon.stderr);
    ctl.must_end_with(1);
    assert!(
        ctl.stdout.contains(daemon.stderr.trim_end()),
        "{daemon} {ctl}"
    );
    node.run(&check).must();
}

#[test]
fn what_could_not_be_read_at_a_reload_is_read_as_soon_as_it_can_be() {
    let node = node_alone();
    let gecos = || {
        let login = node.login("rudolf").command("getent passwd rudolf").run();
        login.must_write()
    };
    let before = gecos();
    let pid = node.run(&["systemctl", "show", "-P", "MainPID", SESSIOND]);
    node.run(&["ln", "-s", "/no/such/file", FILE]).must();
    let journal = Journal::now(&node);
    node.run(&["kill", "-HUP", pid.must()]).must();
    node.within(Duration::from_secs(20), "it is told", |_| {
        let lines = journal.lines(&["-u", SESSIOND]).join("\n");
        lines.contains("the configuration stays as it was until the new one can be read")
    });
    assert_eq!(gecos(), before);
    node.run(&["rm", FILE]).must();
    node.write(FILE, "gecos = \"as soon as it could be\"\n");
    node.within(
        Duration::from_secs(60),
        "it is read without a reload",
        |_| gecos().contains("as soon as it could be"),
    );
    node.run(&["rm", FILE]).must();
    node.run(&["systemctl", "reload", SESSIOND]).must();
}

#[test]
fn a_configuration_that_hangs_keeps_no_daemon_from_starting_and_no_reload_from_its_end() {
    let node = node_alone();
    let mut live = node.login("rosa").hold("open").start();
    live.reach("open");
    let mut server = rig::hang(&node, "/etc/teleport-userdb/config.d", "0");
    let reload = node.run(&["systemctl", "reload", SESSIOND]);
    assert!(
        !reload.succeeded() && reload.elapsed < Duration::from_secs(40),
        "{reload}"
    );
    let check = node.run(&["teleport-userdbctl", "check"]);
    assert!(
        check
            .stdout
            .contains("/etc/teleport-userdb: not read within"),
        "{check}"
    );
    let restart = node.run(&["systemctl", "restart", SESSIOND]);
    assert!(
        restart.succeeded() && restart.elapsed < Duration::from_secs(40),
        "{restart}"
    );
    node.run(&["getent", "passwd", "rosa"]).must();
    node.run(&["umount", "-l", "/etc/teleport-userdb/config.d"])
        .must();
    node.within(Duration::from_secs(60), "it is read by itself", |node| {
        node.login("rosalie").command("true").run().ran.succeeded()
    });
    let _ = node.run(&["pkill", "-KILL", "-f", "teleport-chil[d] hang"]);
    let _ = server.wait();
    live.finish().ran.must();
}

#[test]
fn a_daemon_that_is_told_to_stop_while_it_starts_does_not_run_afterwards() {
    let node = node_alone();
    node.sh("mv /usr/sbin/visudo /usr/sbin/visudo.away; printf '#!/bin/sh\\nsleep 2; exec /usr/sbin/visudo.away \"$@\"\\n' >/usr/sbin/visudo; chmod 755 /usr/sbin/visudo")
        .must();
    node.write(
        FILE,
        "[[role]]\nmatch = \"dev\"\nsudoers = [\"ALL=(root) NOPASSWD: /usr/bin/id\"]\n",
    );
    node.run(&["systemctl", "stop", SESSIOND]).must();
    node.run(&["systemctl", "start", "--no-block", SESSIOND])
        .must();
    std::thread::sleep(Duration::from_secs(1));
    let stopped = node.run(&["systemctl", "stop", SESSIOND]);
    let is = node.run(&["systemctl", "is-active", SESSIOND]);
    node.sh("mv /usr/sbin/visudo.away /usr/sbin/visudo").must();
    node.run(&["rm", FILE]).must();
    node.run(&["systemctl", "start", SESSIOND]).must();
    stopped.must();
    assert_eq!(is.stdout.trim(), "inactive", "{is}");
}

#[test]
fn a_configuration_that_hangs_keeps_nobody_waiting_and_the_one_before_holds() {
    let node = node_alone();
    let mut live = node.login("rena").hold("open").start();
    live.reach("open");
    let pid = || node.run(&["systemctl", "show", "-P", "MainPID", SESSIOND]);
    let before = pid().must().to_owned();
    let mut server = rig::hang(&node, "/etc/teleport-userdb/config.d", "0");
    let journal = Journal::now(&node);
    // Without a word from systemctl, whose --check hangs as well.
    node.run(&["kill", "-HUP", &before]).must();
    // While it is being read, and afterwards.
    for login in ["renate", "renee"] {
        node.login(login).command("true").run().ran.must();
    }
    node.within(Duration::from_secs(20), "it is told", |_| {
        let lines = journal.lines(&["-u", SESSIOND]).join("\n");
        lines.contains("/etc/teleport-userdb: not read within")
            && lines.contains("the configuration stays as it was")
    });
    node.login("renate").command("true").run().ran.must();
    assert_eq!(pid().must(), before);
    // What it was mounted on can be read again, though who reads there still hangs.
    node.run(&["umount", "-l", "/etc/teleport-userdb/config.d"])
        .must();
    let good = change(&node, "gecos = \"after the hang\"\n", "reload");
    node.login("renee").command("true").run().ran.must();
    let lines = journal.lines(&["-u", SESSIOND]).join("\n");
    assert!(lines.contains("the configuration was read anew"), "{lines}");
    drop(good);
    let _ = node.run(&["pkill", "-KILL", "-f", "teleport-chil[d] hang"]);
    let _ = server.wait();
    live.finish().ran.must();
}
