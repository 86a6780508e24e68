//! The home of a session: there in time, the user's alone, found again by the same person and by nobody else.

use std::time::Duration;

use rig::{Etc, Journal, Machine};

use crate::{A_WHILE, node, node_alone};

const BASE: &str = "/run/teleport-userdb/home";
/// Longer than the time that an ended user is left alone, and the end of what it left.
const ENDED: Duration = Duration::from_secs(20);

/// Waits until the home of an ended login is out of reach.
#[track_caller]
fn wait_for_the_end(machine: &Machine, login: &str) {
    machine.within(ENDED, "the home of an ended user is put away", |machine| {
        machine
            .sh(&format!(
                "test -d {BASE}/.kept-{login}/home && ! test -e {BASE}/{login}"
            ))
            .succeeded()
    });
}

#[test]
fn the_home_is_the_users_with_the_skeleton_before_open_session_returns() {
    let node = node();
    let mut login = node.login("hanna").hold("open").start();
    login.reach("open");
    let home = format!("{BASE}/hanna");
    assert_eq!(crate::field(&node, "hanna", 5), home);
    assert_eq!(
        node.run(&["stat", "-c", "%U %G %a %F", &home]).must(),
        "hanna hanna 700 directory"
    );
    let skeleton = node.sh("cd /etc/skel && find . -type f -exec sha256sum {} + | sort");
    let copied = node.sh(&format!(
        "cd {home} && find . -type f -user hanna -group hanna -exec sha256sum {{}} + | sort"
    ));
    assert!(skeleton.must().contains(".profile"), "{skeleton}");
    assert_eq!(copied.must(), skeleton.must());
    login.finish().ran.must();
}

#[test]
fn the_command_starts_in_its_home_and_is_told_so() {
    let node = node();
    let ended = node
        .login("heike")
        .command("pwd; echo $HOME; touch mine && ls mine")
        .run();
    assert_eq!(
        ended.must_write(),
        format!("{BASE}/heike\n{BASE}/heike\nmine")
    );
}

#[test]
fn scp_and_then_ssh_find_the_file_at_once_and_after_the_end_of_the_user() {
    let node = node();
    node.login("hugo")
        .user("ann")
        .command("echo treasure >note")
        .run()
        .ran
        .must();
    let at_once = node.login("hugo").user("ann").command("cat note").run();
    assert_eq!(at_once.must_write(), "treasure");
    wait_for_the_end(&node, "hugo");
    let later = node
        .login("hugo")
        .user("ann")
        .command("cat note && stat -c '%U %a' . note")
        .run();
    assert_eq!(later.must_write(), "treasure\nhugo 700\nhugo 644");
}

#[test]
fn another_teleport_user_on_the_login_neither_finds_nor_reaches_what_was_there() {
    let node = node();
    // Enough to be still there while the next one looks.
    let plenty = "mkdir d && cd d && for i in $(seq 20000); do : >secret$i; done";
    node.login("hedwig")
        .user("ann")
        .command(plenty)
        .run()
        .ran
        .must();
    wait_for_the_end(&node, "hedwig");
    // It has the same UID, and looks for it all the while that a second session has its home made.
    let look = format!("while :; do find {BASE} -name 'secret*' 2>/dev/null | head -n 3; done");
    let mut looking = node
        .login("hedwig")
        .user("ben")
        .roles("homeless")
        .hold("command")
        .command(&look)
        .start();
    looking.reach("command");
    let second = node
        .login("hedwig")
        .user("ben")
        .command("ls -A | grep -c secret")
        .run();
    assert_eq!(second.written(), "0", "{second:?}");
    std::thread::sleep(A_WHILE);
    node.run(&["pkill", "-KILL", "-U", &crate::uid(&node, "hedwig")])
        .must();
    let looked = looking.finish();
    assert!(!looked.ran.stdout.contains("secret"), "{looked:?}");
    node.within(ENDED, "what nobody will see again is removed", |node| {
        node.sh(&format!("test -z \"$(find {BASE} -name 'secret*')\""))
            .succeeded()
    });
    wait_for_the_end(&node, "hedwig");
    let first_again = node.login("hedwig").user("ann").command("ls").run();
    assert_eq!(first_again.must_write(), "", "it was wiped for the other");
}

#[test]
fn a_kept_home_is_out_of_everybodys_reach() {
    let node = node();
    node.login("hans")
        .user("ann")
        .command("chmod 0777 . && echo x >note && chmod 0666 note")
        .run()
        .ran
        .must();
    wait_for_the_end(&node, "hans");
    let look =
        format!("cat {BASE}/.kept-hans/home/note {BASE}/.kept-hans/owner; ls {BASE}/.kept-hans");
    let other = node.login("helga").user("ben").command(&look).run();
    assert_ne!(other.ran.status, 0);
    assert_eq!(
        other.written().matches("Permission denied").count(),
        3,
        "{other:?}"
    );
}

#[test]
fn a_kept_home_is_removed_when_its_time_is_over() {
    let node = node_alone();
    crate::add_config(&node, "20-keep", "[home]\nkeep = \"2s\"\n");
    node.login("heinz")
        .command("mkdir -p a/b && echo x >a/b/c && chmod 0 a")
        .run()
        .ran
        .must();
    wait_for_the_end(&node, "heinz");
    node.within(
        ENDED,
        "a home that was kept for nothing is removed",
        |node| {
            node.sh(&format!(
                "! test -e {BASE}/.kept-heinz && test -z \"$(ls -A {BASE}/.trash)\""
            ))
            .succeeded()
        },
    );
    let again = node.login("heinz").command("ls").run();
    node.run(&["rm", "/etc/teleport-userdb/config.d/20-keep.toml"])
        .must();
    crate::reload(&node);
    assert_eq!(again.must_write(), "");
}

#[test]
fn a_role_without_a_home_gives_the_root_folder() {
    let node = node();
    let ended = node
        .login("hilde")
        .roles("homeless")
        .command("pwd; echo $HOME")
        .run();
    assert_eq!(ended.must_write(), "/\n/");
    assert!(!node.sh(&format!("test -e {BASE}/hilde")).succeeded());
}

#[test]
fn the_user_manager_of_who_has_no_home_ends_in_order() {
    let node = node();
    let journal = Journal::now(&node);
    let mut login = node.login("hjalmar").roles("homeless").hold("open").start();
    login.reach("open");
    let unit = format!("user@{}.service", crate::field(&node, "hjalmar", 2));
    node.within(ENDED, "the user manager runs", |node| {
        node.run(&["systemctl", "is-active", &unit]).succeeded()
    });
    login.finish().ran.must();
    node.within(ENDED, "the user manager ends", |node| {
        let state = node.run(&["systemctl", "show", "-P", "ActiveState", &unit]);
        ["inactive", "failed"].contains(&state.must())
    });
    let lines = journal.lines(&["-u", &unit]);
    let fails =
        |line: &String| line.contains("Failed with result") || line.contains("No such process");
    assert!(!lines.iter().any(fails), "{lines:#?}");
}

#[test]
fn a_persistent_home_has_the_skeleton_too_and_is_there_the_next_time_with_nothing_of_a_broken_attempt()
 {
    let node = node();
    // As a daemon that was killed has left it.
    let half = "mkdir -p /home/.new-herta/.config && echo x >/home/.new-herta/.profile && chown 2108570138 /home/.new-herta/.config";
    node.sh(half).must();
    let first = node
        .login("herta")
        .roles("settled")
        .command("pwd; stat -c '%U %a' . .profile; ls -A | grep -c '[.]config'; echo x >mine")
        .run();
    assert_eq!(
        first.written(),
        "/home/herta\nherta 700\nherta 644\n0",
        "{first:?}"
    );
    let again = node.login("herta").roles("settled").command("ls").run();
    assert_eq!(again.must_write(), "mine");
    node.within(ENDED, "what was begun is removed", |node| {
        node.sh("! test -e /home/.new-herta && test -z \"$(ls -A /home/.trash)\"")
            .succeeded()
    });
}

#[test]
fn links_in_a_home_lead_root_nowhere_when_it_is_wiped() {
    let node = node_alone();
    let before = Etc::of(&node);
    node.sh("mkdir -p /var/tmp/precious && echo x >/var/tmp/precious/file && chmod 0600 /var/tmp/precious/file").must();
    let state = "stat -c '%n %U %G %a %h %i' /etc /etc/shadow /etc/passwd /etc/sudoers.d /var/tmp/precious /var/tmp/precious/file /tmp /";
    let as_it_was = node.sh(state).must().to_owned();
    // Links instead of what the skeleton brought, a loop, locked folders, and folders that are links.
    let traps = "rm -f .profile .bashrc && ln -s /etc/shadow .profile && ln -s /etc/passwd .bashrc && \
                 ln -s /etc dir && ln -s /var/tmp/precious p && ln -s . loop && \
                 mkdir -p a/b/c && ln -s /etc a/b/etc && ln -s ../../../../.. a/b/c/up && ln -s /var/tmp/precious/file a/file && \
                 mkfifo a/fifo && chmod 0 a/b && mkdir l && ln -s /etc/sudoers.d l/s && chmod 0500 l && chmod 0 .";
    for round in 0..3 {
        // In turns, so that each wipes what the other has left.
        let user = if round % 2 == 0 { "ann" } else { "ben" };
        let ended = node.login("hektor").user(user).command(traps).run();
        ended.ran.must();
        let told = ended.messages().join(" ");
        assert!(!told.contains("home"), "{ended:?}");
        wait_for_the_end(&node, "hektor");
    }
    node.login("hektor")
        .user("cid")
        .command("ls -A")
        .run()
        .ran
        .must();
    node.within(ENDED, "old homes are removed", |node| {
        node.sh(&format!("test -z \"$(ls -A {BASE}/.trash)\""))
            .succeeded()
    });
    assert_eq!(node.sh(state).must(), as_it_was);
    before.must_equal(&Etc::of(&node));
}

#[test]
fn links_planted_while_the_skeleton_is_copied_lead_nowhere() {
    let node = node_alone();
    let before = Etc::of(&node);
    for round in 0..8 {
        let login = format!("harry{round}");
        // The session without a home races the making of the home for the next session of the same UID.
        let race = format!(
            "while :; do for f in .profile .bashrc .bash_logout .x; do ln -sf /etc/shadow {BASE}/.new-{login}/$f; \
             ln -sfn /etc {BASE}/{login}/$f.d; done; done 2>/dev/null"
        );
        let mut racer = node
            .login(&login)
            .roles("homeless")
            .hold("command")
            .command(&race)
            .start();
        racer.reach("command");
        for _ in 0..3 {
            let ended = node.login(&login).roles("dev").command("true").run();
            ended.ran.must();
        }
        node.run(&["pkill", "-KILL", "-U", &crate::uid(&node, &login)])
            .must();
        racer.finish();
    }
    before.must_equal(&Etc::of(&node));
    let shadow = node.run(&["stat", "-c", "%U %G %a", "/etc/shadow"]);
    assert_eq!(shadow.must(), "root shadow 640");
}

#[test]
fn while_the_skeleton_does_not_answer_homes_go_without_and_neither_logins_nor_a_restart_wait_for_it()
 {
    let node = node_alone();
    let journal = Journal::now(&node);
    // Of the five seconds that PAM waits three are for the home: a loaded machine needs more than the others.
    node.sh("sed -i 's/pam_teleport.so/& timeout=30/' /etc/pam.d/sshd")
        .must();
    let settled = |login: &str| node.login(login).service("sshd").roles("settled");
    settled("horst").run().ran.must();
    let mut server = rig::hang(&node, "/etc/skel", "0");
    let ended = std::thread::scope(|scope| {
        // As many as there are threads for the disk of such homes.
        let new: Vec<_> = (0..16)
            .map(|n| scope.spawn(move || settled(&format!("horst{n}")).run()))
            .collect();
        let ended = node
            .login("hubert")
            .service("sshd")
            .command("stat -c '%U %a' . && ls -A")
            .run();
        new.into_iter()
            .for_each(|one| assert_eq!(one.join().unwrap().ran.status, 0));
        ended
    });
    let present = settled("horst").command("pwd").run();
    node.run(&["systemctl", "restart", "teleport-sessiond"])
        .must();
    node.sh("pkill -KILL -f 'teleport-chil[d] hang' && umount /etc/skel")
        .must();
    let _ = server.wait();
    node.sh("sed -i 's/ timeout=30//' /etc/pam.d/sshd").must();
    assert_eq!(ended.must_write(), "hubert 700");
    assert_eq!(present.must_write(), "/home/horst", "{present:?}");
    // Not by its unit: who has told it has ended, and the journal may not have known its unit any more.
    let told = journal.lines(&["-t", "teleport-sessiond"]);
    let lacks = |line: &&String| line.contains("hubert lacks all of /etc/skel");
    assert_eq!(told.iter().filter(lacks).count(), 1, "{told:?}");
    let next = node.login("hulda").command("ls -A").run();
    assert!(next.must_write().contains(".profile"), "{next:?}");
}

#[test]
fn without_the_file_system_of_homes_a_session_starts_in_the_root_folder_and_the_person_is_told() {
    let node = node_alone();
    let unit = "run-teleport\\x2duserdb-home.mount";
    node.run(&["systemctl", "stop", unit]).must();
    let ended = node.login("hermine").command("pwd; echo $HOME").run();
    let home_of_record = format!("{BASE}/hermine");
    assert!(
        !node.sh(&format!("test -e {home_of_record}")).succeeded(),
        "a home was made without limits"
    );
    assert_eq!(ended.must_write(), "/\n/", "{ended:?}");
    let told = ended.messages().join(" ");
    assert!(
        told.contains("no home directory") && told.contains("starts in /"),
        "{ended:?}"
    );
    node.run(&["systemctl", "start", unit]).must();
    let ended = node.login("hermine").command("pwd").run();
    assert_eq!(ended.must_write(), home_of_record);
}

/// No kernel of Debian has quotas on tmpfs: there this shows that homes do without. What holds is what mount(8) can do here.
#[test]
fn no_user_gets_more_than_half_of_the_file_system_of_homes_where_the_kernel_has_quotas() {
    let node = node_alone();
    let unit = "run-teleport\\x2duserdb-home.mount";
    let journal = Journal::now(&node);
    let drop_in = format!("/run/systemd/system/{unit}.d/size.conf");
    node.run(&["mkdir", "-p", &format!("/run/systemd/system/{unit}.d")])
        .must();
    node.write(
        &drop_in,
        "[Mount]\nOptions=mode=0755,nosuid,nodev,size=16m,nr_inodes=5000\n",
    );
    let remounted = format!("systemctl daemon-reload && systemctl restart '{unit}'");
    node.sh(&remounted).must();
    let has_quotas = node
        .sh("mount -t tmpfs -o usrquota tmpfs /mnt && umount /mnt")
        .succeeded();
    let options = node.sh(&format!("findmnt -no FSTYPE,OPTIONS {BASE}"));
    let is_told = || {
        let lines = journal.lines(&["-u", unit]);
        lines
            .iter()
            .any(|line| line.contains("all homes share its size"))
    };
    if !has_quotas {
        let soon = std::time::Duration::from_secs(30);
        node.within(soon, "the journal says that there are none", |_| is_told());
    }
    let home = node.login("quentin").command("pwd").run();
    node.run(&["rm", &drop_in]).must();
    node.sh(&remounted).must();
    assert_eq!(home.must_write(), format!("{BASE}/quentin"));
    let options = options.must();
    for option in [
        "tmpfs",
        "nosuid",
        "nodev",
        "size=16384k",
        "nr_inodes=5000",
        "mode=755",
    ] {
        assert!(options.contains(option), "{option}: {options}");
    }
    if has_quotas {
        for limit in [
            "usrquota_block_hardlimit=8388608",
            "usrquota_inode_hardlimit=2500",
        ] {
            assert!(options.contains(limit), "{limit}: {options}");
        }
    } else {
        assert!(!options.contains("quota"), "{options}");
    }
}
