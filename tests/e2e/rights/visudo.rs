//! Specifications that sudo would not understand: found when the configuration is loaded, not by a login.

use std::time::Duration;

use rig::Journal;

use crate::{node, node_alone, reload};

#[test]
fn a_role_with_a_wrong_specification_is_reported_at_load_and_costs_nobody_the_login() {
    let node = node();
    let journal = Journal::now(&node);
    reload(&node);
    let lines = journal.lines(&["-u", "teleport-sessiond"]);
    let line = lines.iter().find(|line| line.contains("visudo refuses"));
    let line = line.unwrap_or_else(|| panic!("nothing was reported: {lines:#?}"));
    for part in ["config.d/10-rights.toml:", "\"broken\"", "/usr/bin/id"] {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
    let ended = node
        .login("vera")
        .roles("broken")
        .command("sudo -n true; echo $?; id -Gn")
        .run();
    let written = ended.must_write();
    assert!(
        written.contains("\n1\n") || written.starts_with("1\n"),
        "{ended:?}"
    );
    assert!(
        written.contains("crew"),
        "the role gives everything else: {ended:?}"
    );
    assert!(
        ended
            .messages()
            .join(" ")
            .contains("No sudo by the role \"broken\""),
        "{ended:?}"
    );
    // A good role beside it is not touched.
    let ended = node
        .login("vilma")
        .roles("broken admin")
        .command("sudo -n id -un")
        .run();
    assert_eq!(ended.must_write().lines().last(), Some("root"), "{ended:?}");
}

#[test]
fn check_names_file_line_and_role_and_ends_with_one() {
    let node = node();
    let checked = node.run(&["/usr/libexec/teleport-sessiond", "--check"]);
    checked.must_end_with(1);
    for part in [
        "/etc/teleport-userdb/config.d/10-rights.toml:",
        "\"broken\"",
        "visudo refuses",
    ] {
        assert!(checked.stderr.contains(part), "{part:?}: {checked}");
    }
    assert_eq!(checked.stderr.lines().count(), 1, "{checked}");
}

#[test]
fn the_command_line_tells_of_the_role_and_explains_the_login_as_the_daemon_decides_it() {
    let node = node();
    let checked = node.run(&["teleport-userdbctl", "check"]);
    checked.must_end_with(1);
    assert!(
        checked.stdout.contains("visudo refuses") && checked.stdout.contains("\"broken\""),
        "{checked}"
    );
    let words = ["--user", "u", "--login", "vincent", "--roles", "broken"];
    let explained = node.run(&[&["teleport-userdbctl", "explain"], &words[..]].concat());
    let text = explained.must();
    assert!(
        text.contains("no sudo, because") && !text.contains("NOPASSWD: ALL"),
        "{explained}"
    );
}

#[test]
fn without_visudo_there_is_no_sudo_and_the_journal_says_so_once_for_each_role() {
    let node = node_alone();
    node.run(&["mv", "/usr/sbin/visudo", "/usr/sbin/visudo.away"])
        .must();
    let journal = Journal::now(&node);
    reload(&node);
    let lines = journal.lines(&["-u", "teleport-sessiond"]);
    let reported = lines
        .iter()
        .filter(|line| line.contains("there is no visudo on this node"))
        .count();
    let ended = node
        .login("viktor")
        .roles("admin")
        .command("sudo -n true")
        .run();
    node.run(&["mv", "/usr/sbin/visudo.away", "/usr/sbin/visudo"])
        .must();
    reload(&node);
    ended.ran.must_end_with(1);
    assert_eq!(reported, 3, "{lines:#?}");
    let again = node
        .login("viktor")
        .roles("admin")
        .command("sudo -n id -un")
        .run();
    assert_eq!(again.must_write(), "root");
}

#[test]
fn a_visudo_that_did_not_answer_is_asked_again_without_a_reload() {
    let node = node_alone();
    node.run(&["mv", "/usr/sbin/visudo", "/usr/sbin/visudo.away"])
        .must();
    node.write(
        "/usr/sbin/visudo",
        "#!/bin/sh\n[ ! -e /run/hangs ] || exec sleep 60\nexec /usr/sbin/visudo.away \"$@\"\n",
    );
    node.sh("chmod 755 /usr/sbin/visudo; touch /run/hangs")
        .must();
    let journal = Journal::now(&node);
    node.run(&["systemctl", "restart", "teleport-sessiond"])
        .must();
    let sudo = |login: &str| {
        let login = node.login(login).roles("admin");
        login.command("sudo -n id -un").run()
    };
    let without = sudo("viola");
    node.run(&["rm", "/run/hangs"]).must();
    let limit = Duration::from_secs(60);
    node.within(limit, "visudo is asked again", |_| {
        let told = journal.lines(&["-u", "teleport-sessiond"]);
        told.iter().any(|line| line.contains("visudo answers now"))
    });
    let with = sudo("viola");
    node.run(&["mv", "/usr/sbin/visudo.away", "/usr/sbin/visudo"])
        .must();
    reload(&node);
    without.ran.must_end_with(1);
    let told = without.messages().join(" ");
    assert!(told.contains("No sudo by the role \"admin\""), "{told}");
    assert_eq!(with.must_write(), "root");
    let told = journal.lines(&["-u", "teleport-sessiond", "-p", "err"]);
    let why = |line: &String| line.contains("\"admin\"") && line.contains("no answer in 3s");
    assert!(told.iter().any(why), "{told:?}");
}
