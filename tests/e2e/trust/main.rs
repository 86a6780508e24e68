//! Whom and what the product believes: who may ask the registry, and what a PAM stack can make of a login.
//! One machine for all tests of this binary, with stacks that meddle; each test uses logins of its own.

mod admission;
mod environment;
mod old_kernel;
mod reentry;
mod table;

use std::path::Path;
use std::process::Command;
use std::sync::{Once, RwLockReadGuard, RwLockWriteGuard};

use rig::{Machine, Ran};
use serde_json::Value;

/// Where the module of `meddler.c` is in the machine.
const MEDDLER: &str = "/usr/local/lib/pam_meddler.so";
/// Who has this role is a member of `wardens` and has sudo; who has not, neither.
const CONFIGURATION: &str = r#"
pam-services = ["teleport", "sshd", "judge", "meddled-before", "meddled-after", "renamed-before", "renamed-after",
                "overridden", "readenv", "late"]
[[role]]
match = "warden"
groups = ["wardens"]
sudo = true
"#;
/// pam_env's own form of the variables, which win over what is there.
const OVERRIDES: &str = "TELEPORT_ROLES OVERRIDE=warden\nTELEPORT_USERNAME OVERRIDE=mallory\n\
                         TELEPORT_LOGIN OVERRIDE=root\n";
/// In which only our module decides: what it ignores ends as CRED_INSUFFICIENT.
const JUDGE: &str = "\
auth     [success=done ignore=ignore default=die] pam_teleport.so
auth     required pam_debug.so auth=cred_insufficient cred=cred_insufficient
account  [success=done ignore=ignore default=die] pam_teleport.so
account  required pam_debug.so acct=cred_insufficient
session  [success=done ignore=ignore default=die] pam_teleport.so
session  required pam_debug.so open_session=cred_insufficient close_session=cred_insufficient
password [success=done ignore=ignore default=die] pam_teleport.so
password required pam_debug.so prechauthtok=cred_insufficient chauthtok=cred_insufficient
";

/// The node, used side by side with other tests.
#[track_caller]
fn node() -> RwLockReadGuard<'static, Machine> {
    let node = rig::node();
    prepare(&node);
    node
}

/// The node while no other test uses it.
#[track_caller]
fn node_alone() -> RwLockWriteGuard<'static, Machine> {
    let node = rig::node_alone();
    prepare(&node);
    node
}

#[track_caller]
fn prepare(node: &Machine) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        node.copy_in(&meddler(), MEDDLER).unwrap();
        node.write("/etc/security/overrides.conf", OVERRIDES);
        for (service, text) in stacks() {
            node.write(&format!("/etc/pam.d/{service}"), &text);
        }
        // An administrator who wants it everywhere: su, sudo, cron, at, login.
        node.sh(
            "echo 'account required pam_teleport.so' >>/etc/pam.d/common-account && \
                 for stack in common-session common-session-noninteractive; do \
                 echo 'session required pam_teleport.so' >>/etc/pam.d/$stack; done && \
                 mkdir -p /etc/teleport-userdb/config.d",
        )
        .must();
        node.write("/etc/teleport-userdb/config.d/trust.toml", CONFIGURATION);
        node.run(&["systemctl", "restart", "teleport-sessiond"])
            .must();
    });
}

/// Services with a module beside ours that changes what a login is about.
fn stacks() -> Vec<(&'static str, String)> {
    let ours = |kind: &str| format!("{kind} required pam_teleport.so\n");
    let (account, session) = (ours("account"), ours("session"));
    let meddler = |does: &str| format!("account required {MEDDLER} {does}\n");
    let pam_env = |options: &str| format!("session required pam_env.so {options}\n");
    vec![
        ("judge", JUDGE.to_owned()),
        ("stranger", JUDGE.to_owned()),
        (
            "meddled-before",
            meddler("TELEPORT_ROLES=warden") + &account + &session,
        ),
        (
            "meddled-after",
            account.clone() + &meddler("TELEPORT_ROLES=warden TELEPORT_LOGIN=root") + &session,
        ),
        (
            "renamed-before",
            meddler("user=walter") + &account + &session,
        ),
        (
            "renamed-after",
            account.clone() + &meddler("user=walter") + &session,
        ),
        (
            "overridden",
            account.clone()
                + &pam_env("conffile=/etc/security/overrides.conf readenv=0 user_readenv=0")
                + &session,
        ),
        (
            "late",
            account.clone()
                + &format!("session required {MEDDLER} TELEPORT_LOGIN=gundula ")
                + "TELEPORT_USERNAME=mallory TELEPORT_ROLES=warden\n"
                + &session,
        ),
        (
            "readenv",
            account + &pam_env("conffile=/dev/null readenv=0 user_readenv=1") + &session,
        ),
    ]
}

/// The built module of `meddler.c`.
#[track_caller]
fn meddler() -> std::path::PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/trust/meddler.c");
    let module = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pam_meddler.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .arg(&module)
        .arg(&source)
        .arg("-lpam")
        .output();
    match built {
        Ok(built) if built.status.success() => module,
        Ok(built) => panic!(
            "building {} failed (it takes libpam0g-dev): {}",
            source.display(),
            String::from_utf8_lossy(&built.stderr)
        ),
        Err(error) => {
            panic!("a C compiler is missing, install it with `apt-get install gcc`: {error}")
        }
    }
}

/// Calls a method of the registry as root of the machine; the answer as it came.
#[track_caller]
fn call(node: &Machine, method: &str, parameters: &Value) -> (i32, Value) {
    call_inside(node, &[], method, parameters)
}

/// The same from within what `wrapper` makes.
#[track_caller]
fn call_inside(node: &Machine, wrapper: &[&str], method: &str, parameters: &Value) -> (i32, Value) {
    let method = format!("com.goteleport.Sessions.{method}");
    let parameters = parameters.to_string();
    let call = [
        "/usr/local/bin/teleport-child",
        "call",
        &method,
        &parameters,
    ];
    let ran = node.run(&[wrapper, &call[..]].concat());
    (ran.status, answer(&ran))
}

#[track_caller]
fn answer(ran: &Ran) -> Value {
    match serde_json::from_str(ran.stdout.trim()) {
        Ok(answer) => answer,
        Err(_) => panic!("no answer: {ran}"),
    }
}

/// Sessions and reservations of a login, as the registry lists them.
#[track_caller]
fn sessions(node: &Machine, login: &str) -> Vec<Value> {
    let (status, answer) = call(node, "List", &serde_json::json!({}));
    assert_eq!(status, 0, "{answer}");
    let listed = answer["parameters"]["sessions"].as_array().cloned();
    let mut listed = listed.unwrap_or_default();
    listed.retain(|session| session["userName"] == login);
    listed
}

/// Whether nothing resolves the login any more.
fn is_gone(node: &Machine, login: &str) -> bool {
    node.run(&["getent", "passwd", login]).status == 2
        && node.run(&["getent", "group", login]).status == 2
        && !node.run(&["userdbctl", "user", login]).succeeded()
}
