//! A file system that never answers, mounted by a user on, in and beside its home: nobody waits for it.

use std::time::Duration;

use rig::hang;

use crate::{BASE, IN_THE_END, ends, node};

#[track_caller]
fn ends_with_a_mount(login: &str, folder: &str) {
    let node = node();
    let mut session = node.login(login).hold("open").hold("close").start();
    session.reach("open");
    let uid = crate::uid(&node, login);
    let point = folder.replace("HOME", &format!("{BASE}/{login}"));
    if !point.ends_with(login) || point.starts_with("/dev") {
        node.sh(&format!(
            "setpriv --reuid={uid} --regid={uid} --clear-groups mkdir -p {point}"
        ))
        .must();
    }
    let mut server = hang(&node, &point, &uid);
    // Others come and go meanwhile, also while this one is ended.
    let other = node.login("bystander").command("true").run();
    other.ran.must();
    assert!(other.ran.elapsed < Duration::from_secs(10), "{other:?}");
    session.go_on();
    session.reach("close");
    let closed = std::time::Instant::now();
    session.finish();
    for _ in 0..5 {
        let other = node.login("bystander").command("true").run();
        other.ran.must();
        assert!(other.ran.elapsed < Duration::from_secs(10), "{other:?}");
    }
    ends(&node, login, &uid, closed, IN_THE_END);
    let _ = server.wait();
    let again = node.login(login).command("pwd").run();
    assert_eq!(again.must_write(), format!("{BASE}/{login}"));
}

fn on_the_home_itself() {
    ends_with_a_mount("frida", "HOME");
}

fn deep_in_the_home() {
    ends_with_a_mount("felix", "HOME/a/b");
}

fn in_dev_shm() {
    ends_with_a_mount("fabia", "/dev/shm/fabia");
}

fn on_the_runtime_directory() {
    let node = node();
    let mut session = node.login("fiona").hold("open").hold("close").start();
    session.reach("open");
    let uid = crate::uid(&node, "fiona");
    let mut server = hang(&node, &format!("/run/user/{uid}"), &uid);
    let (uid, closed, _) = {
        session.go_on();
        session.reach("close");
        (uid, std::time::Instant::now(), session.finish())
    };
    ends(&node, "fiona", &uid, closed, IN_THE_END);
    let _ = server.wait();
}

#[test]
fn what_hangs_in_a_mount_of_the_users_holds_nobody_up_and_is_taken_away() {
    crate::side_by_side(&[
        ("on the home itself", on_the_home_itself),
        ("deep in the home", deep_in_the_home),
        ("in dev shm", in_dev_shm),
        ("on the runtime directory", on_the_runtime_directory),
    ]);
}
