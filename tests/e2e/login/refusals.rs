//! Logins that are not ours to make: those of others pass untouched, what cannot be is refused in a sentence.

use std::time::Duration;

use rig::{Ended, Etc, Journal, LOCAL_GROUP, LOCAL_USER, node, node_alone};

use crate::{is_gone, passwd};

/// Refused in the account phase, with one sentence for the person at the terminal.
#[track_caller]
fn must_be_refused(ended: &Ended, code: &str, naming: &str) {
    assert_eq!(ended.code("account"), Some(code), "{ended:?}");
    ended.ran.must_end_with(251);
    let messages = ended.messages();
    assert!(
        matches!(messages[..], [sentence] if sentence.contains(naming) && sentence.ends_with('.')),
        "one sentence that names {naming:?} was expected: {messages:?}"
    );
}

#[test]
fn a_login_named_like_an_existing_user_passes_through_untouched() {
    let node = node();
    let before = (
        passwd(&node, LOCAL_USER),
        node.run(&["id", LOCAL_USER]).must().to_owned(),
    );
    let mut login = node.login(LOCAL_USER).hold("command").command("id").start();
    login.reach("command");
    assert_eq!(passwd(&node, LOCAL_USER), before.0);
    assert_eq!(node.run(&["id", LOCAL_USER]).must(), before.1);
    let record = node.run(&["userdbctl", "user", LOCAL_USER, "--output=json"]);
    assert!(!record.must().contains("com.goteleport"), "{record}");
    let ended = login.finish();
    assert_eq!(ended.must_write(), before.1);
    assert_eq!(
        (ended.code("open"), ended.code("close")),
        (Some("SUCCESS"), Some("SUCCESS")),
        "{ended:?}"
    );
    assert_eq!(passwd(&node, LOCAL_USER), before.0);
}

#[test]
fn a_login_named_like_an_existing_group_is_refused_with_a_sentence() {
    let node = node();
    let before = Etc::of(&node);
    let ended = node.login(LOCAL_GROUP).run();
    must_be_refused(&ended, "PERM_DENIED", LOCAL_GROUP);
    node.run(&["getent", "passwd", LOCAL_GROUP])
        .must_end_with(2);
    before.must_equal(&Etc::of(&node));
}

#[test]
fn a_login_that_a_group_of_the_node_lists_is_refused_and_gets_none_of_its_rights() {
    let node = rig::node_alone();
    node.sh("cp -p /etc/group /root/group && echo 'crane:x:990:noel' >>/etc/group")
        .must();
    let given = ["noel", "Noel"].map(|login| node.login(login).run());
    node.sh("cat /root/group >/etc/group").must();
    for ended in given {
        must_be_refused(&ended, "PERM_DENIED", "crane");
    }
    assert!(is_gone(&node, "noel"));
    node.login("noel").command("true").run().ran.must();
}

/// Services of systemd's own know the one, files dropped into its folders the others, from the moment they are there.
#[test]
fn who_is_in_systemds_user_database_is_somebody_elses_as_soon_as_it_is_there() {
    let node = rig::node_alone();
    let unit = "systemd-run -q -p DynamicUser=yes -p Group=dynag --unit=dyno sleep infinity && until id dyno; do sleep 0.1; done";
    node.sh(unit).must();
    // To pam_unix its account has expired; what becomes of it is not ours to say. The group is half of a pair, too.
    for login in ["dyno", "dynag"] {
        node.login(login).run();
    }
    node.run(&["systemctl", "stop", "dyno"]).must();

    let files = [
        (
            "iris.user",
            r#"{"userName":"iris","uid":1950000002,"gid":1950000002,"shell":"/bin/sh"}"#,
        ),
        ("ivan.group", r#"{"groupName":"ivan","gid":1950000003}"#),
        // An empty one is a masked one.
        ("ivo:adm.membership", "{}"),
    ];
    // What comes first makes the folder, too; the one after it has to be seen in it.
    node.sh("mkdir -p /run/userdb").must();
    for (name, content) in files {
        node.write(&format!("/run/userdb/{name}"), content);
    }
    node.sh("ln -s iris.user /run/userdb/1950000002.user")
        .must();
    let [iris, ivan, ivo] = ["iris", "ivan", "ivo"].map(|login| node.login(login).run());
    // Without the daemon nss-systemd reads the folders itself, and knows of a group in /etc/group by what it is told there.
    node.run(&[
        "systemctl",
        "stop",
        "systemd-userdbd.socket",
        "systemd-userdbd.service",
    ])
    .must();
    let alone = node.login("ivo").run();
    node.run(&["systemctl", "start", "systemd-userdbd.socket"])
        .must();
    node.sh("rm -r /run/userdb").must();
    for login in ["dyno", "dynag", "iris"] {
        let said = format!("{login} exists already and is left alone");
        node.within(Duration::from_secs(30), &said, |node| {
            let unit = "--unit=teleport-sessiond";
            node.run(&["journalctl", "-q", unit, "-g", &said])
                .succeeded()
        });
    }
    assert_eq!(iris.code("account"), Some("SUCCESS"), "{iris:?}");
    must_be_refused(&ivan, "PERM_DENIED", "ivan");
    must_be_refused(&ivo, "PERM_DENIED", "adm");
    must_be_refused(&alone, "PERM_DENIED", "adm");
    for login in ["ivan", "ivo"] {
        node.login(login).command("true").run().ran.must();
    }
}

#[test]
fn a_pam_user_other_than_teleport_login_is_refused() {
    let node = node();
    let ended = node.login("nils").env("TELEPORT_LOGIN=nora").run();
    assert_eq!(ended.code("account"), Some("PERM_DENIED"), "{ended:?}");
    assert!(is_gone(&node, "nils") && is_gone(&node, "nora"));
}

#[test]
fn variables_outside_the_pam_environment_make_no_user() {
    let node = node();
    let ended = node
        .login("nele")
        .service("sshd")
        .flag("--process-env-only")
        .flag("--look")
        .run();
    let found = ended
        .events
        .iter()
        .any(|event| event["event"] == "lookup" && event["found"] == true);
    assert!(!found, "{ended:?}");
    assert!(is_gone(&node, "nele"));
}

#[test]
fn a_service_that_is_not_ours_makes_no_user() {
    let node = node();
    let ended = node
        .login("nico")
        .service("foreign")
        .flag("--look")
        .hold("account")
        .run();
    let found = ended
        .events
        .iter()
        .any(|event| event["event"] == "lookup" && event["found"] == true);
    assert!(!found, "{ended:?}");
}

#[test]
fn while_the_host_goes_down_nobody_is_made() {
    let node = node_alone();
    let journal = Journal::now(&node);
    node.write("/run/nologin", "The node goes down.\n");
    let refused = node.login("nolan").run();
    node.run(&["rm", "/run/nologin"]).must();
    assert_ne!(refused.code("account"), Some("SUCCESS"), "{refused:?}");
    node.login("nora").command("true").run().ran.must();
    let told = journal.lines(&["-u", "teleport-sessiond"]).join("\n");
    assert!(told.contains("nora") && !told.contains("nolan"), "{told}");
}

#[test]
fn a_user_of_systemds_is_somebodys_though_glibc_cannot_be_asked_for_it() {
    let node = node_alone();
    let module = node.run(&["find", "/usr/lib", "-name", "libnss_systemd.so.2"]);
    let module = module.must();
    let dynamic = "systemd-run -q --unit dynamo -p DynamicUser=yes -p User=dynamo sleep 1000";
    node.sh(dynamic).must();
    node.within(Duration::from_secs(10), "its user is there", |node| {
        node.run(&["getent", "passwd", "dynamo"]).succeeded()
    });
    node.run(&["mv", module, "/usr/lib/away"]).must();
    // With new lookup workers, which have not loaded it.
    node.run(&["systemctl", "restart", "teleport-sessiond"])
        .must();
    let theirs = node.login("dynamo").run();
    let nobodys = node.login("nina").command("true").run();
    node.run(&["mv", "/usr/lib/away", module]).must();
    node.run(&["systemctl", "stop", "dynamo"]).must();
    node.run(&["systemctl", "restart", "teleport-sessiond"])
        .must();
    must_be_refused(&theirs, "PERM_DENIED", "libnss_systemd.so.2");
    nobodys.ran.must();
}
