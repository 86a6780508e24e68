//! `teleport-userdbctl` on a booted node: with a live session, for an unprivileged user, with the daemons stopped.
//! How it renders what it found is tested where it is rendered.

use rig::{LOCAL_USER, Machine, Ran, node, node_alone};
use serde_json::Value;

const CTL: &str = "teleport-userdbctl";

fn ctl(machine: &Machine, arguments: &[&str]) -> Ran {
    machine.run(&[&[CTL], arguments].concat())
}

fn unprivileged(machine: &Machine, arguments: &[&str]) -> Ran {
    machine.run(&[&["runuser", "-u", LOCAL_USER, "--", CTL], arguments].concat())
}

#[track_caller]
fn json(ran: &Ran) -> Value {
    match serde_json::from_str(&ran.stdout) {
        Ok(value) => value,
        Err(error) => panic!("{error}: {ran}"),
    }
}

fn of_login<'a>(list: &'a Value, field: &str, login: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|entry| entry[field] == login)
}

#[test]
fn a_fresh_node_is_good_and_says_so() {
    let node = node_alone();
    let checked = ctl(&node, &["check"]);
    checked.must_end_with(0);
    assert!(
        checked.stdout.ends_with("\nNothing is wrong.\n"),
        "{checked}"
    );
    let status = ctl(&node, &["status"]);
    status.must_end_with(0);
    for line in [
        "State: good",
        "Registry: answers",
        "Userdb: answers",
        "NSS passwd: files teleport systemd",
        "Configuration: good",
    ] {
        assert!(status.stdout.contains(line), "{line:?}: {status}");
    }
}

#[test]
fn a_live_session_is_listed_with_its_user_and_its_leader() {
    let node = node();
    let mut login = node
        .login("tilda")
        .user("tilda@example.com")
        .roles("dev ops")
        .hold("open")
        .start();
    let pid = login.reach("open").pid();
    let users = json(&ctl(&node, &["list", "--json=short"]));
    let user = of_login(&users, "login", "tilda").expect("tilda is listed");
    assert_eq!(user["sessions"], 1, "{user}");
    assert_eq!(user["groups"], serde_json::json!(["teleport-tmp"]));
    let sessions = json(&ctl(&node, &["--json=pretty", "sessions"]));
    let session = of_login(&sessions, "userName", "tilda").expect("her session is listed");
    assert_eq!(session["leaderPid"].to_string(), pid, "{session}");
    assert_eq!(session["teleportUser"], "tilda@example.com");
    assert_eq!(session["roles"], serde_json::json!(["dev", "ops"]));
    assert_eq!(session["state"], "open");
    let table = ctl(&node, &["sessions"]);
    assert!(
        table.must().starts_with("SESSION") && table.stdout.ends_with("listed.\n"),
        "{table}"
    );
    login.finish().ran.must();
    let after = ctl(&node, &["list", "--no-legend"]);
    assert!(!after.must().contains("tilda"), "{after}");
}

#[test]
fn anybody_may_list_users_and_nobody_but_root_sessions() {
    let node = node();
    let mut login = node.login("tobias").hold("open").start();
    login.reach("open");
    let list = unprivileged(&node, &["list"]);
    assert!(list.must().contains("tobias"), "{list}");
    let sessions = unprivileged(&node, &["sessions"]);
    sessions.must_end_with(1);
    assert!(sessions.stderr.contains("run this as root"), "{sessions}");
    let checked = unprivileged(&node, &["check"]);
    checked.must_end_with(0);
    assert!(checked.stdout.contains("Only root can see"), "{checked}");
    // They are read by root alone: that there are none would be a guess.
    let status = unprivileged(&node, &["status"]);
    assert!(
        status.must().contains("Sudoers files: only root can see"),
        "{status}"
    );
    let explained = unprivileged(
        &node,
        &["explain", "--user", "u", "--login", "l", "--roles", "r"],
    );
    explained.must_end_with(2);
    login.finish().ran.must();
}

#[test]
fn with_the_daemons_stopped_users_are_listed_and_what_is_wrong_is_said() {
    let node = node_alone();
    let units = [
        "teleport-sessiond.socket",
        "teleport-userdbd.socket",
        "teleport-sessiond.service",
        "teleport-userdbd.service",
    ];
    let mut login = node.login("theo").hold("open").start();
    login.reach("open");
    node.run(&[&["systemctl", "stop"], &units[..]].concat())
        .must();
    let list = unprivileged(&node, &["list"]);
    let status = ctl(&node, &["status"]);
    let checked = ctl(&node, &["check", "--json=short"]);
    let sessions = ctl(&node, &["sessions"]);
    node.run(&[&["systemctl", "start"], &units[..]].concat())
        .must();
    assert!(list.must().contains("theo"), "{list}");
    status.must_end_with(1);
    assert!(
        status.stdout.contains("systemctl start teleport-sessiond"),
        "{status}"
    );
    checked.must_end_with(1);
    let wrong: Vec<String> = json(&checked)
        .as_array()
        .into_iter()
        .flatten()
        .filter(|finding| finding["verdict"] == "wrong")
        .map(|finding| finding["check"].as_str().unwrap_or_default().to_owned())
        .collect();
    for check in ["registry", "units", "userdb"] {
        assert!(wrong.iter().any(|found| found == check), "{wrong:?}");
    }
    sessions.must_end_with(1);
    login.finish().ran.must();
    ctl(&node, &["check"]).must();
}

#[test]
fn a_node_that_is_set_up_wrong_is_told_what_would_be_right() {
    let node = node_alone();
    node.run(&["cp", "-a", "/etc/nsswitch.conf", "/var/tmp/nsswitch.conf"])
        .must();
    let services = ["teleport", "sshd"];
    for service in services {
        node.sh(&format!("mv /etc/pam.d/{service} /var/tmp/pam-{service}"))
            .must();
    }
    node.run(&[
        "sed",
        "-i",
        "s/^group:.*/group: files systemd/",
        "/etc/nsswitch.conf",
    ])
    .must();
    let checked = ctl(&node, &["check"]);
    node.run(&["cp", "-a", "/var/tmp/nsswitch.conf", "/etc/nsswitch.conf"])
        .must();
    for service in services {
        node.sh(&format!("mv /var/tmp/pam-{service} /etc/pam.d/{service}"))
            .must();
    }
    checked.must_end_with(1);
    for part in [
        "WRONG nsswitch group",
        "\"group: files teleport systemd\" is right",
        "WRONG pam service",
        "2 things are wrong.",
    ] {
        assert!(checked.stdout.contains(part), "{part:?}: {checked}");
    }
    ctl(&node, &["check"]).must();
}

#[test]
fn without_what_lookups_and_homes_need_a_node_is_not_good() {
    let node = node_alone();
    let units = [
        "teleport-lookup.socket",
        "run-teleport\\x2duserdb-home.mount",
    ];
    node.run(&[&["systemctl", "stop"], &units[..]].concat())
        .must();
    let checked = ctl(&node, &["check"]);
    node.run(&[&["systemctl", "start"], &units[..]].concat())
        .must();
    checked.must_end_with(1);
    for unit in units {
        assert!(
            checked.stdout.contains(&format!("{unit} is inactive")),
            "{unit}: {checked}"
        );
    }
    ctl(&node, &["check"]).must();
}

#[test]
fn the_pam_services_of_the_configuration_are_what_is_looked_at() {
    let node = node_alone();
    let file = "/etc/teleport-userdb/config.d/50-services.toml";
    node.write(file, "pam-services = [\"login\"]\n");
    let checked = ctl(&node, &["check"]);
    node.run(&["rm", file]).must();
    checked.must_end_with(1);
    assert!(
        checked.stdout.contains("pam-services names (login)"),
        "{checked}"
    );
    ctl(&node, &["check"]).must();
}

#[test]
fn a_folder_of_homes_that_the_sandbox_has_read_only_is_told_with_the_line_that_opens_it() {
    let node = node_alone();
    let (file, base) = ("/etc/teleport-userdb/config.d/50-base.toml", "/srv/h");
    node.run(&["mkdir", "-p", base]).must();
    node.write(file, "[home]\nmode = \"persistent\"\nbase = \"/srv/h\"\n");
    let checked = ctl(&node, &["check"]);
    node.run(&["rm", file]).must();
    node.run(&["rmdir", base]).must();
    checked.must_end_with(1);
    for part in ["WRONG home base", "ReadWritePaths=-/srv/h"] {
        assert!(checked.stdout.contains(part), "{part:?}: {checked}");
    }
    ctl(&node, &["check"]).must();
}

#[test]
fn a_daemon_that_started_while_sudoers_d_was_read_only_is_to_be_restarted() {
    let node = node_alone();
    let folder = "/etc/sudoers.d";
    let restart = ["systemctl", "restart", "teleport-sessiond"];
    node.sh(&format!(
        "mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"
    ))
    .must();
    node.run(&restart).must();
    node.run(&["mount", "-o", "remount,bind,rw", folder]).must();
    let checked = ctl(&node, &["check"]);
    // The daemon is at work in it.
    node.run(&["umount", "-l", folder]).must();
    node.run(&restart).must();
    checked.must_end_with(1);
    assert!(checked.stdout.contains("WRONG sudoers folder"), "{checked}");
    ctl(&node, &["check"]).must();
}

#[test]
fn a_file_of_sudoers_that_root_reads_by_its_capabilities_alone_keeps_everybody_out() {
    let node = node_alone();
    let file = "/etc/sudoers.d/closed";
    node.sh(&format!("echo '#x' >{file} && chmod 000 {file}"))
        .must();
    let checked = ctl(&node, &["check"]);
    let refused = node.login("c-closed").run();
    node.run(&["chmod", "u+r", file]).must();
    let let_in = node.login("c-closed").run();
    node.run(&["rm", file]).must();
    checked.must_end_with(1);
    for part in ["WRONG sudoers ", &format!("`chmod u+r {file}`")] {
        assert!(checked.stdout.contains(part), "{part:?}: {checked}");
    }
    assert_eq!(refused.code("account"), Some("PERM_DENIED"), "{refused:?}");
    let_in.ran.must();
    ctl(&node, &["check"]).must();
}

#[test]
fn a_file_of_somebody_live_that_grants_nothing_is_told_whatever_its_name() {
    let node = node_alone();
    let file = "/etc/sudoers.d/teleport-c-emptied";
    let role = "/etc/teleport-userdb/config.d/50-admin.toml";
    let reload = ["systemctl", "reload", "teleport-sessiond"];
    node.write(role, "[[role]]\nmatch = \"admin\"\nsudo = true\n");
    node.run(&reload).must();
    let mut login = node.login("c-emptied").roles("admin").hold("open").start();
    login.reach("open");
    for (change, found) in [
        (format!("sed -i s/ALL=.*// {file}"), "has lost the rule"),
        (format!("rm {file} && mkdir {file}"), "is a folder"),
    ] {
        node.sh(&change).must();
        let checked = ctl(&node, &["check"]);
        node.sh(&format!("rmdir {file} 2>/dev/null || true")).must();
        node.run(&["systemctl", "restart", "teleport-sessiond"])
            .must();
        checked.must_end_with(1);
        for part in ["WRONG sudo rights", file, found] {
            assert!(checked.stdout.contains(part), "{part:?}: {checked}");
        }
        ctl(&node, &["check"]).must();
    }
    login.finish().ran.must();
    node.run(&["rm", role]).must();
    node.run(&reload).must();
}

#[test]
fn a_daemon_that_hangs_is_to_be_restarted() {
    let node = node_alone();
    let pid = node.run(&["systemctl", "show", "-P", "MainPID", "teleport-sessiond"]);
    let pid = pid.must().trim().to_owned();
    node.run(&["kill", "-STOP", &pid]).must();
    let sessions = ctl(&node, &["sessions"]);
    // It may have been ended by its watchdog meanwhile.
    node.run(&["kill", "-CONT", &pid]);
    sessions.must_end_with(1);
    let advice = "systemctl restart teleport-sessiond";
    assert!(sessions.stderr.contains(advice), "{sessions}");
}

fn explain(machine: &Machine, login: &str, user: &str) -> Ran {
    let words = [
        "explain", "--user", user, "--login", login, "--roles", "dev",
    ];
    ctl(machine, &words)
}

#[test]
fn explain_plans_what_a_login_then_gets() {
    let node = node();
    let words = [
        "explain",
        "--user",
        "alice",
        "--login",
        "tamara",
        "--roles",
        "dev",
        "--json=short",
    ];
    let explained = ctl(&node, &words);
    explained.must();
    let plan = json(&explained)["plan"].clone();
    let mut login = node.login("tamara").hold("open").start();
    login.reach("open");
    let passwd = node.run(&["getent", "passwd", "tamara"]);
    let fields: Vec<&str> = passwd.must().split(':').collect();
    assert_eq!(plan["uid"].to_string(), fields[2], "{explained}");
    assert_eq!(plan["gecos"], fields[4], "{explained}");
    login.finish().ran.must();
}

#[test]
fn explain_refuses_with_the_sentence_the_person_logging_in_sees() {
    let node = node();
    // A group of others, a name that cannot be one, and a login that another Teleport user is on.
    let mut taken = node.login("trude").user("first").hold("open").start();
    taken.reach("open");
    for (login, user) in [("sudo", "alice"), ("a b", "alice"), ("teleport-x", "alice")] {
        let explained = explain(&node, login, user);
        explained.must_end_with(1);
        let ended = node.login(login).user(user).run();
        let messages = ended.messages();
        assert!(
            matches!(messages[..], [sentence] if explained.stdout.contains(sentence)),
            "{messages:?} {explained}"
        );
    }
    taken.finish().ran.must();
    let foreign = explain(&node, LOCAL_USER, "alice");
    foreign.must_end_with(0);
    assert!(foreign.stdout.starts_with("somebody else's"), "{foreign}");
}

#[test]
fn explain_knows_who_is_on() {
    let node = node();
    // A login keeps to the end what it came into being under, so this has to hold before.
    let text = "[logins]\nshared = \"never\"\n";
    let file = "/etc/teleport-userdb/config.d/50-explain.toml";
    let reload = ["systemctl", "reload", "teleport-sessiond"];
    node.write(file, text);
    node.run(&reload).must();
    let mut first = node.login("thea").user("first").hold("open").start();
    first.reach("open");
    let explained = explain(&node, "thea", "second");
    let alone = explain(&node, "thea", "first");
    node.run(&["rm", file]).must();
    node.run(&reload).must();
    explained.must_end_with(1);
    assert!(
        explained.stdout.starts_with("refused (shared)"),
        "{explained}"
    );
    alone.must();
    first.finish().ran.must();
}

#[test]
fn explain_sees_a_file_of_somebody_else_in_the_place_of_a_sudo_rule() {
    let node = node();
    let (config, theirs) = (
        "/etc/teleport-userdb/config.d/50-theirs.toml",
        "/etc/sudoers.d/teleport-tilda",
    );
    let reload = ["systemctl", "reload", "teleport-sessiond"];
    let role = "[[role]]\nmatch = \"dev\"\nsudo = true\n";
    node.write(config, role);
    node.write(theirs, "# somebody else's\n");
    node.run(&reload).must();
    let explained = explain(&node, "tilda", "alice");
    let ended = node.login("tilda").command("true").run();
    node.run(&["rm", config, theirs]).must();
    node.run(&reload).must();
    let sentence = format!("{theirs} exists and is not ours");
    assert!(explained.stdout.contains(&sentence), "{explained}");
    assert!(ended.messages().join("\n").contains(&sentence), "{ended:?}");
}
