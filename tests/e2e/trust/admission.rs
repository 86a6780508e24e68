//! Who may ask the registry: root of the host itself, as the kernel says. Everybody else is refused and logged.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rig::{Journal, Machine};
use serde_json::{Value, json};

use crate::{call, call_inside, is_gone, node, node_alone, sessions};

const SOCKET: &str = "/run/teleport-userdb/sessions";
const AS_NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];
/// What a container runtime does for a container that has the socket bind-mounted: namespaces, a root of its own.
const IN_A_CONTAINER: [&str; 12] = [
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--uts",
    "--ipc",
    "--net",
    "--cgroup",
    "sh",
    "-ec",
    "mount -t tmpfs none /mnt; cd /mnt; mkdir -p usr proc run/teleport-userdb
     ln -s usr/bin bin; ln -s usr/lib lib; ln -s usr/lib64 lib64
     mount --bind /usr usr; mount -t proc proc proc
     touch run/teleport-userdb/sessions; mount --bind /run/teleport-userdb/sessions run/teleport-userdb/sessions
     exec chroot . \"$@\"",
    "sh",
];
/// A user namespace of root's own making that maps everybody to themselves, as the host's does.
const AS_EVERYBODY: [&str; 4] = [
    "sh",
    "-ec",
    "unshare -U sh -c 'until grep -q . /proc/self/uid_map; do sleep 0.01; done; exec \"$@\"' sh \"$@\" &
     until echo 0 0 4294967295 >/proc/$!/gid_map; do sleep 0.01; done 2>/dev/null
     echo 0 0 4294967295 >/proc/$!/uid_map; wait $!",
    "sh",
];
/// The roots that are not the host's, and what each is told.
const OTHER_ROOTS: [(&[&str], &str); 5] = [
    (&AS_EVERYBODY, "another user namespace"),
    (&["unshare", "-U", "-r"], "another user namespace"),
    (&["unshare", "-p", "-f", "--mount-proc"], "PID namespace"),
    (&["unshare", "-U", "-r", "-p", "-f"], "namespace"),
    (&IN_A_CONTAINER, "PID namespace"),
];

/// What a Teleport child would ask for `login`.
pub(crate) fn reservation(login: &str) -> Value {
    json!({
        "login": login, "service": "teleport", "undecodable": [],
        "environment": {"TELEPORT_LOGIN": login, "TELEPORT_USERNAME": "mallory", "TELEPORT_ROLES": "warden"},
    })
}

/// The registry's log since then says that a caller was not admitted, and why.
#[track_caller]
fn must_be_logged(journal: &Journal, why: &str) {
    let lines = journal.lines(&["-u", "teleport-sessiond"]);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("not admitted") && line.contains(why)),
        "{why:?} is not logged: {lines:#?}"
    );
}

#[track_caller]
fn must_be_refused(status: i32, answer: &Value, why: &str) {
    assert_eq!(status, 1, "{answer}");
    assert_eq!(
        answer["error"], "com.goteleport.Sessions.NotAdmitted",
        "{answer}"
    );
    let message = answer["parameters"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(why), "{why:?} was expected: {answer}");
}

/// The registry's socket connectable by all, as long as this lives.
struct OpenToAll<'m>(&'m Machine);

impl<'m> OpenToAll<'m> {
    #[track_caller]
    fn of(node: &'m Machine) -> Self {
        node.run(&["chmod", "0666", SOCKET]).must();
        Self(node)
    }
}

impl Drop for OpenToAll<'_> {
    fn drop(&mut self) {
        self.0.run(&["chmod", "0600", SOCKET]);
    }
}

#[test]
fn who_is_not_root_cannot_connect() {
    let node = node();
    assert_eq!(
        node.run(&["stat", "-c", "%u %g %a %F", SOCKET]).must(),
        "0 0 600 socket"
    );
    let (status, answer) = call_inside(&node, &AS_NOBODY, "List", &json!({}));
    assert_eq!(status, 2, "{answer}");
    assert!(
        answer["connect"]
            .as_str()
            .is_some_and(|why| why.contains("Permission denied")),
        "{answer}"
    );
}

#[test]
fn even_where_all_can_connect_only_root_is_believed() {
    let node = node_alone();
    let open = OpenToAll::of(&node);
    let journal = Journal::now(&node);
    for (method, parameters) in [
        ("List", json!({})),
        ("Reserve", reservation("erna")),
        ("Close", json!({"session": "0"})),
        ("NoSuchMethod", json!({})),
    ] {
        let (status, answer) = call_inside(&node, &AS_NOBODY, method, &parameters);
        must_be_refused(status, &answer, "uid 65534");
    }
    must_be_logged(&journal, "uid 65534");
    // A user of ours is no better than anybody else.
    let ended = node
        .login("edda")
        .command("/usr/local/bin/teleport-child call com.goteleport.Sessions.List")
        .run();
    ended.ran.must_end_with(1);
    assert!(ended.written().contains("NotAdmitted"), "{ended:?}");
    drop(open);
    assert!(is_gone(&node, "erna"));
}

#[test]
fn root_of_another_namespace_or_container_is_refused_and_logged() {
    let node = node();
    // The very same call from the host's root is answered.
    assert_eq!(call(&node, "List", &json!({})).0, 0);
    for (wrapper, why) in OTHER_ROOTS {
        let journal = Journal::now(&node);
        for (method, parameters) in [("List", json!({})), ("Reserve", reservation("enno"))] {
            let (status, answer) = call_inside(&node, wrapper, method, &parameters);
            must_be_refused(status, &answer, why);
        }
        must_be_logged(&journal, why);
    }
    assert!(sessions(&node, "enno").is_empty());
    assert!(is_gone(&node, "enno"));
}

#[test]
fn a_caller_outside_the_pid_namespace_of_the_registry_is_refused_and_logged() {
    let node = node();
    let journal = Journal::now(&node);
    // This process is root, but no process of the machine: it has no PID there.
    let socket = node.root().join(SOCKET.trim_start_matches('/'));
    let mut connection = UnixStream::connect(socket).unwrap();
    let call = json!({"method": "com.goteleport.Sessions.List", "parameters": {}});
    connection
        .write_all(format!("{call}\0").as_bytes())
        .unwrap();
    let mut reply = [0; 4096];
    let length = connection.read(&mut reply).unwrap();
    let reply = String::from_utf8_lossy(&reply[..length]).into_owned();
    assert!(reply.contains("NotAdmitted"), "{reply}");
    must_be_logged(&journal, "foreign PID namespace");
}

#[test]
fn a_login_in_a_container_is_refused_in_a_sentence_even_for_a_local_user() {
    let node = node();
    for login in ["emil", rig::LOCAL_USER] {
        let ended = node
            .login(login)
            .inside(&["unshare", "-p", "-f", "--mount-proc"])
            .run();
        assert_eq!(ended.code("account"), Some("PERM_DENIED"), "{ended:?}");
        assert!(
            matches!(ended.messages()[..], [sentence] if sentence.contains("namespace")),
            "{ended:?}"
        );
    }
    assert!(is_gone(&node, "emil"));
}

#[test]
fn a_session_is_closed_by_its_own_leader_only() {
    let node = node();
    let mut login = node.login("ella").hold("open").start();
    login.reach("open");
    let listed = sessions(&node, "ella");
    assert_eq!(listed.len(), 1, "{listed:?}");
    let (status, answer) = call(&node, "Close", &json!({"session": listed[0]["session"]}));
    assert_eq!(status, 1, "{answer}");
    assert_eq!(
        answer["error"], "com.goteleport.Sessions.UnknownSession",
        "{answer}"
    );
    assert_eq!(sessions(&node, "ella"), listed);
    login.finish().ran.must();
    assert!(is_gone(&node, "ella"));
}

#[test]
fn a_connection_whose_caller_has_ended_is_nobodys() {
    let node = node();
    let journal = Journal::now(&node);
    let reservation = reservation("eike").to_string();
    let ran = node.run(&[
        "/usr/local/bin/teleport-child",
        "call",
        "--orphaned",
        "com.goteleport.Sessions.Reserve",
        &reservation,
    ]);
    must_be_refused(1, &crate::answer(&ran), "ended");
    must_be_logged(&journal, "ended");
    assert!(sessions(&node, "eike").is_empty() && is_gone(&node, "eike"));
}

#[test]
fn whom_a_message_names_as_its_sender_is_not_believed() {
    let node = node();
    let mut victim = node.login("ewald").hold("open").start();
    let pid = victim.reach("open").pid();
    let mut parameters = reservation("elke");
    parameters["leaderPid"] = pid.clone().into();
    parameters["pid"] = pid.into();
    let (_, answer) = call(&node, "Reserve", &parameters);
    // Whatever the answer is, nothing of it hangs on the other process: the caller has ended, and so has its login.
    node.within(
        std::time::Duration::from_secs(20),
        "a reservation ends with who asked for it",
        |node| is_gone(node, "elke"),
    );
    assert!(sessions(&node, "elke").is_empty(), "{answer}");
    victim.finish().ran.must();
}
