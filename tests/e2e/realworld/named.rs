//! Names that sudo and doas give rights to, written in every way they may be: nobody logs in under one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::{DOAS, as_uid, may, must_be_content, node_alone, sudoers, uid};

const ALL: &str = "ALL=(ALL) NOPASSWD: ALL";

/// Files in sudoers.d, and the login that each makes root.
fn files() -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("comment", format!("# see wiki \\\nbobx {ALL}\n"), "bobx"),
        ("behind", format!("root {ALL} # x \\\nbobe {ALL}\n"), "bobe"),
        (
            "backslash",
            format!("Cmnd_Alias ECHO = /bin/echo a\\\\\nbobd {ALL}\n"),
            "bobd",
        ),
        (
            "blanks",
            format!("User_Alias NADM = alicia, \\ \n carolx : NBDM = davex\nNBDM {ALL}\n"),
            "davex",
        ),
        (
            "returns",
            format!("User_Alias NCDM = \\\r\n erikx\r\nNCDM {ALL}\r\n"),
            "erikx",
        ),
        ("hexadecimal", format!("b\\x6fbh {ALL}\n"), "bobh"),
        ("quote", format!("\"a\\\"b\", carolq {ALL}\n"), "carolq"),
        ("glued", format!("\"gluedx\"{ALL}\n"), "gluedx"),
        ("include", "@include /etc/sx/a,b\n".to_owned(), "inclx"),
        (
            "hedda",
            format!(
                "# teleport-userdb v1: written for a live session, removed with it; do not edit\nhedda {ALL}\n"
            ),
            "hedda",
        ),
        ("netgroup", format!("+admins {ALL}\n"), "netta"),
    ]
}

#[test]
fn nobody_logs_in_under_a_name_that_sudo_or_doas_gives_rights_to_however_it_is_written() {
    let node = node_alone();
    let mut logins = Vec::new();
    for (name, text, login) in files() {
        sudoers(&node, name, &text);
        logins.push((login, "sudo"));
    }
    node.run(&["mkdir", "/etc/sx"]).must();
    node.write("/etc/sx/a,b", &format!("inclx {ALL}\n"));
    node.run(&["chmod", "0440", "/etc/sx/a,b"]).must();
    let folder = node.root().join("etc/sudoers.d");
    let nameless = folder.join(OsStr::from_bytes(b"z\xe9"));
    let latin1 = [b"# caf\xe9\nzoeb ", ALL.as_bytes(), b"\n"].concat();
    std::fs::write(&nameless, latin1).expect("the machine's files are ours to write");
    logins.push(("zoeb", "sudo"));
    node.write(
        "/etc/doas.conf",
        &format!("{DOAS}permit nopass dora as root\npermit nopass :wheelx as root\n"),
    );
    logins.extend([("dora", "doas"), ("wheelx", "doas")]);
    node.write("/etc/netgroup", "admins (,netta,)\n");
    node.sh(
        "cp -p /etc/nsswitch.conf /etc/nsswitch.kept; sed -i '/^netgroup:/d' /etc/nsswitch.conf; \
             echo 'netgroup: files' >>/etc/nsswitch.conf",
    )
    .must();
    // What sudo skips, or reads without finding anybody, refuses nobody.
    node.sh("yes '# nothing' | head -c 5000000 >/etc/sudoers.d/large; echo >>/etc/sudoers.d/large; chmod 0440 /etc/sudoers.d/*")
        .must();
    must_be_content(&node);
    node.run(&["ln", "-s", "loop", "/etc/sudoers.d/loop"])
        .must();

    for (login, _) in &logins {
        let ended = node.login(login).roles("dev").run();
        assert_eq!(
            ended.code("account"),
            Some("PERM_DENIED"),
            "{login}: {ended:?}"
        );
        assert!(
            ended.messages().join(" ").contains("is protected"),
            "{login}: {ended:?}"
        );
    }
    let mut session = node.login("nobodys").roles("dev").hold("open").start();
    session.reach("open");
    let id = uid(&node, "nobodys");
    assert!(!may(&node, &id, "sudo") && !may(&node, &id, "doas"));
    session.finish().ran.must();

    // And they are what the programs take them for.
    for (login, program) in &logins {
        node.run(&["useradd", login]).must();
        let ran = as_uid(&node, &uid(&node, login), &[program, "-n", "id", "-u"]);
        assert_eq!(ran.stdout.trim(), "0", "{login} by {program}: {ran:?}");
        // Whoever exists goes on, too.
        node.login(login).roles("dev").run().ran.must();
        node.run(&["userdel", "-r", login]);
    }

    for (name, _, _) in files() {
        node.run(&["rm", &format!("/etc/sudoers.d/{name}")]).must();
    }
    std::fs::remove_file(nameless).expect("the file is there");
    node.sh("rm -r /etc/sx /etc/netgroup /etc/sudoers.d/loop /etc/sudoers.d/large; mv /etc/nsswitch.kept /etc/nsswitch.conf")
        .must();
    node.write("/etc/doas.conf", DOAS);
}
