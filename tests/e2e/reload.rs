//! A configuration that changes under live sessions: reloaded, wrong, wrong at start, and as `--check` sees it.

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
    let _ = node.run(&["systemctl", verb, SESSIOND]);
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

#[test]
fn a_wrong_configuration_at_start_refuses_teleport_logins_and_leaves_locals_alone() {
    let node = node_alone();
    let mut live = node.login("robin").hold("open").start();
    live.reach("open");
    let before = node.run(&["getent", "passwd", "robin"]).must().to_owned();
    let journal = Journal::now(&node);
    let changed = change(&node, WRONG, "restart");
    must_be_told_in(&journal);
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
