//! An NSS module of somebody else that hangs, crashes or lies, for logins named so. It runs in our lookup
//! workers, and harms the login that met it at most.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rig::{Ended, LOCAL_USER, Machine, node_alone};

const SOURCE: &str = "userdb-service/tests/toys/libnss_toy.c";
/// The daemon gives a lookup 3 s; the PAM module gives up after 5 s. Either has its say on a busy machine.
const IN_TIME: Duration = Duration::from_secs(15);
/// How many there are.
const WORKERS: usize = 4;

/// The module, asked right after the local files. Taken away again when dropped.
struct Module<'m> {
    machine: &'m Machine,
    path: String,
}

impl<'m> Module<'m> {
    #[track_caller]
    fn asked_on(machine: &'m Machine) -> Module<'m> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("");
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libnss_toy.so.2");
        let gcc = Command::new("gcc")
            .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
            .args([&built, &root.join(SOURCE)])
            .status();
        assert!(
            gcc.is_ok_and(|gcc| gcc.success()),
            "this test needs gcc (apt-get install gcc libc6-dev)"
        );
        let neighbour = machine.run(&["find", "/usr/lib", "-name", "libnss_systemd.so.2"]);
        let path = neighbour.must().replace("systemd", "toy");
        let module = Module { machine, path };
        machine.copy_in(&built, &module.path).unwrap();
        machine
            .sh("sed -i 's/^passwd:.*files/& toy/' /etc/nsswitch.conf")
            .must();
        machine.run(&["getent", "passwd", "toyuser"]).must();
        // Without warm workers it is seen what becomes of each.
        machine
            .run(&["systemctl", "restart", "teleport-sessiond.service"])
            .must();
        module
    }
}

impl Drop for Module<'_> {
    fn drop(&mut self) {
        self.machine.sh(&format!(
            "sed -i 's/^\\(passwd:.*files\\) toy/\\1/' /etc/nsswitch.conf; rm {}",
            self.path
        ));
    }
}

/// PIDs of the lookup workers.
fn workers(machine: &Machine) -> Vec<String> {
    let found = machine.run(&["pgrep", "-f", "^[^ ]*teleport-sessiond --lookup-worker"]);
    found.stdout.lines().map(str::to_owned).collect()
}

#[track_caller]
fn everybody_else_logs_in(machine: &Machine) {
    for (login, service) in [
        (LOCAL_USER, "local"),
        (LOCAL_USER, "teleport"),
        ("roland", "teleport"),
    ] {
        let ended = machine
            .login(login)
            .service(service)
            .command("id -un")
            .run();
        assert_eq!(ended.must_write(), login, "{}", ended.ran);
    }
}

/// Refused in the account phase, with one sentence that names the module.
#[track_caller]
fn must_be_told(ended: &Ended) {
    assert_eq!(ended.code("account"), Some("PERM_DENIED"), "{ended:?}");
    ended.ran.must_end_with(251);
    let messages = ended.messages();
    assert!(
        matches!(messages[..], [sentence] if sentence.contains("toy") && sentence.ends_with('.')),
        "one sentence that names the module was expected: {messages:?}"
    );
}

/// The same in time.
#[track_caller]
fn must_be_refused(ended: &Ended) {
    must_be_told(ended);
    assert!(ended.ran.elapsed < IN_TIME, "{}", ended.ran);
}

#[test]
fn a_hanging_module_harms_the_login_that_met_it_and_leaves_no_process() {
    let node = node_alone();
    let module = Module::asked_on(&node);
    // Nothing but our module in the stack, which asks nobody itself.
    let hang = || node.login("hanging").service("sshd").command("true").run();
    std::thread::scope(|scope| {
        // Two for each worker: who comes after them waits longer than one call to the daemon may take.
        let hanging: Vec<_> = (0..2 * WORKERS).map(|_| scope.spawn(hang)).collect();
        node.within(Duration::from_secs(30), "all workers hang", |node| {
            workers(node).len() >= WORKERS
        });
        let ended = node.login("roland").command("id -un").run();
        assert_eq!(ended.must_write(), "roland", "{}", ended.ran);
        everybody_else_logs_in(&node);
        let hung: Vec<Ended> = hanging
            .into_iter()
            .map(|hung| hung.join().unwrap())
            .collect();
        hung.iter().for_each(must_be_told);
        let in_time = |ended: &&Ended| ended.ran.elapsed < IN_TIME;
        assert!(hung.iter().filter(in_time).count() >= WORKERS, "{hung:?}");
    });
    // One was enough for the others.
    node.within(
        Duration::from_secs(30),
        "the hung workers are killed",
        |node| workers(node).len() <= 1,
    );
    everybody_else_logs_in(&node);
    drop(module);
    hang().ran.must();
}

#[test]
fn a_crashing_module_harms_the_login_that_met_it() {
    let node = node_alone();
    let module = Module::asked_on(&node);
    for _ in 0..3 {
        let ended = node.login("crashing").service("sshd").command("true").run();
        must_be_refused(&ended);
        everybody_else_logs_in(&node);
    }
    drop(module);
    let again = node.login("crashing").command("true").run();
    again.ran.must();
}

#[test]
fn a_lying_module_is_at_most_believed_about_the_login_it_lies_about() {
    let node = node_alone();
    let module = Module::asked_on(&node);
    for liar in ["lie-root", "lie-null", "lie-bytes"] {
        let mut login = node
            .login(liar)
            .service("sshd")
            .command("true")
            .hold("account")
            .start();
        login.reach("account");
        // It says that the login is somebody's: then it is nothing of ours, whoever that is.
        let ours = node.run(&["teleport-userdbctl", "list"]);
        assert!(!ours.must().contains("lie"), "{ours}");
        let sudoers = node.sh("ls /etc/sudoers.d");
        assert!(!sudoers.must().contains("lie"), "{sudoers}");
        login.finish();
        everybody_else_logs_in(&node);
    }
    drop(module);
    everybody_else_logs_in(&node);
}

#[test]
fn a_user_of_others_goes_on_though_what_sudoers_includes_is_on_a_disk_that_hangs() {
    let node = node_alone();
    let module = Module::asked_on(&node);
    node.sh("cp -a /etc/sudoers /etc/sudoers.before && mkdir -p /srv/sudoers && echo '@includedir /srv/sudoers' >>/etc/sudoers")
        .must();
    let mut server = rig::hang(&node, "/srv/sudoers", "0");
    let ended = node.login("toyuser").service("sshd").command("true").run();
    let stranger = node.login("rosalind").service("sshd").command("true").run();
    node.sh("pkill -KILL -f 'teleport-chil[d] hang' && umount -l /srv/sudoers")
        .must();
    let _ = server.wait();
    node.sh("mv /etc/sudoers.before /etc/sudoers").must();
    assert_eq!(ended.code("account"), Some("SUCCESS"), "{ended:?}");
    assert_eq!(
        stranger.code("account"),
        Some("PERM_DENIED"),
        "{stranger:?}"
    );
    let told = stranger.messages().join(" ");
    assert!(told.contains("the host"), "{told}");
    drop(module);
    everybody_else_logs_in(&node);
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_of_a_lookup_leaves_no_worker() {
    let node = node_alone();
    let module = Module::asked_on(&node);
    let mut login = node.login("hanging").service("sshd").hold("start").start();
    let caller = login.reach("start").pid();
    login.go_on();
    node.within(Duration::from_secs(30), "a worker hangs", |node| {
        workers(node).len() == 1
    });
    let hung = workers(&node);
    node.run(&[
        "systemctl",
        "kill",
        "-s",
        "KILL",
        "teleport-sessiond.service",
    ])
    .must();
    node.within(Duration::from_secs(20), "the worker is killed", |node| {
        !workers(node).iter().any(|worker| hung.contains(worker))
    });
    // Without the daemon, the PAM module may ask the hanging one in the caller itself.
    node.run(&["kill", "-KILL", &caller]);
    drop(login);
    let took = node.within(IN_TIME, "no unit is left", |node| {
        let units = ["systemctl", "list-units", "--all", "--no-legend"];
        let units = node.run(&[&units[..], &["teleport-lookup@*"]].concat());
        units.must().is_empty() && workers(node).is_empty()
    });
    println!("nothing was left after {took:?}");
    drop(module);
    everybody_else_logs_in(&node);
}
