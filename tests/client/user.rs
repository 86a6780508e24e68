//! The login user as this process sees it through NSS, and becoming that user.
//! Nothing of PAM is here.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist, setgid, setgroups, setsid, setuid};
use serde_json::{Value, json};

/// The user and all its groups, as `getpwnam_r` and `getgrouplist` tell them.
pub(crate) struct Identity {
    pub(crate) user: User,
    pub(crate) groups: Vec<Gid>,
}

/// Looks `login` up; `None` is "no such user", an error is a provider that failed.
pub(crate) fn identity(login: &str) -> nix::Result<Option<Identity>> {
    let Some(user) = User::from_name(login)? else {
        return Ok(None);
    };
    let name = CString::new(user.name.as_str()).unwrap_or_default();
    let groups = getgrouplist(&name, user.gid)?;
    Ok(Some(Identity { user, groups }))
}

/// What a lookup right now finds, as an event: by name, by UID, and the user's groups.
pub(crate) fn looked(
    login: &str,
    uid: Option<Uid>,
    after: &str,
    handle: usize,
) -> (Value, Option<Uid>) {
    let head = json!({"event": "lookup", "after": after, "handle": handle});
    let found = identity(login);
    let uid = found
        .as_ref()
        .ok()
        .and_then(|found| found.as_ref())
        .map(|found| found.user.uid)
        .or(uid);
    let by_uid = uid.map(|uid| match User::from_uid(uid) {
        Ok(found) => json!(found.map(|user| user.name)),
        Err(error) => json!({"error": error.to_string()}),
    });
    let group = match Group::from_name(login) {
        Ok(found) => json!(found.map(|group| group.gid.as_raw())),
        Err(error) => json!({"error": error.to_string()}),
    };
    let tail = match found {
        Err(error) => json!({"found": null, "error": error.to_string()}),
        Ok(None) => json!({"found": false, "by_uid": by_uid, "group": group}),
        Ok(Some(Identity { user, groups })) => json!({
            "found": true, "by_uid": by_uid, "group": group,
            "name": user.name, "uid": user.uid.as_raw(), "gid": user.gid.as_raw(),
            "gecos": user.gecos.to_string_lossy(), "home": user.dir, "shell": user.shell,
            "groups": groups.iter().map(|gid| gid.as_raw()).collect::<Vec<_>>(),
        }),
    };
    let mut event = head;
    if let (Some(event), Some(tail)) = (event.as_object_mut(), tail.as_object()) {
        event.extend(tail.clone());
    }
    (event, uid)
}

/// Runs `line` by the user's shell, in a session of its own, with the user's ids and `environment`, on the terminal
/// that is the descriptor `terminal`, if there is one.
pub(crate) fn run(
    identity: &Identity,
    line: &str,
    environment: &[String],
    terminal: Option<i32>,
) -> io::Result<Child> {
    let user = &identity.user;
    let (uid, gid, groups) = (user.uid, user.gid, identity.groups.clone());
    let home = if user.dir.is_dir() {
        user.dir.as_path()
    } else {
        Path::new("/")
    };
    let mut command = Command::new(&user.shell);
    command
        .arg("-c")
        .arg(line)
        .current_dir(home)
        .env_clear()
        .envs(assignments(environment))
        .envs([("USER", &user.name), ("LOGNAME", &user.name)])
        .env("HOME", &user.dir)
        .env("SHELL", &user.shell)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stderr(Stdio::from(io::stdout().as_fd().try_clone_to_owned()?));
    let become_user = move || {
        setsid()?;
        become_identity(uid, gid, &groups)?;
        Ok(())
    };
    // SAFETY: between fork and exec only setsid, setgroups, setgid and setuid are called, and nothing allocates.
    unsafe { command.pre_exec(become_user) };
    if let Some(terminal) = terminal {
        crate::terminal::attach(&mut command, terminal)?;
    }
    command.spawn()
}

/// Gives root's rights away for good, in this process.
pub(crate) fn become_identity(uid: Uid, gid: Gid, groups: &[Gid]) -> nix::Result<()> {
    setgroups(groups)?;
    setgid(gid)?;
    setuid(uid)
}

/// `NAME=value` each; the dynamic linker's variables are never handed on.
fn assignments(environment: &[String]) -> impl Iterator<Item = (&str, &str)> {
    environment
        .iter()
        .filter_map(|assignment| assignment.split_once('='))
        .filter(|(name, _)| !name.starts_with("LD_"))
}
