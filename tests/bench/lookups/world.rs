//! The world of one worker: its own mounts, with users where its subject looks for them, and the daemons that it takes.
//! Everything goes away with the worker's namespaces and processes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::Result;
use crate::population;
use crate::subject::{Kind, Subject};

const SSSD_CONF: &str = "[sssd]\nservices = nss\ndomains = floor\n\
[nss]\nfilter_users = root\nfilter_groups = root\nmemcache_timeout = 86400\nentry_negative_timeout = 86400\n\
[domain/floor]\nid_provider = proxy\nproxy_lib_name = files\nauth_provider = none\naccess_provider = permit\n\
entry_cache_timeout = 86400\nmin_id = 1\n";

/// Puts this process into the world of `subject`. glibc has not looked at nsswitch.conf yet.
pub(crate) fn enter(subject: Subject) -> Result {
    let Subject { kind, users } = subject;
    own_mounts()?;
    tmpfs("/run", "mode=0755")?;
    fs::create_dir("/run/files")?;
    let services = match kind {
        Kind::Files => "files".to_owned(),
        // What nscd caches comes from somewhere quick: filling it is not what is measured.
        Kind::Nscd => "files shm".to_owned(),
        Kind::Publisher => "files teleport".to_owned(),
        kind => format!("files {}", kind.service()),
    };
    let nsswitch = format!("passwd: {services}\ngroup: {services}\n");
    replace("/etc/nsswitch.conf", &nsswitch)?;
    match kind {
        Kind::Null => (),
        Kind::Teleport | Kind::Publisher => {
            fs::create_dir("/run/teleport-userdb")?;
            in_a_child("publish", users)?;
        }
        Kind::Shm => floor(users)?,
        Kind::Files => with_users_in_etc(users)?,
        Kind::Systemd => drop_ins(users)?,
        Kind::Userdbd => {
            drop_ins(users)?;
            userdbd()?;
        }
        Kind::Nscd => {
            floor(users)?;
            nscd()?;
        }
        Kind::Sss => sssd(users)?,
    }
    Ok(())
}

fn own_mounts() -> Result {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    Ok(())
}

fn tmpfs(path: &str, options: &str) -> Result {
    mount(
        Some("tmpfs"),
        path,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )?;
    Ok(())
}

/// Puts other content in the place of a file, for this world.
fn replace(path: &str, content: &str) -> Result {
    let copy = Path::new("/run/files").join(path.replace('/', "-"));
    fs::write(&copy, content)?;
    mount(
        Some(&copy),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(())
}

/// Runs one of our own commands for so many users in another process, to its end.
pub(crate) fn in_a_child(command: &str, users: u32) -> Result {
    let status = Command::new("/proc/self/exe")
        .args([command, &users.to_string()])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command} for {users} users: {status}").into())
    }
}

fn floor(users: u32) -> Result {
    fs::create_dir("/run/shm-floor")?;
    fs::write("/run/shm-floor/table", population::floor_table(users))?;
    Ok(())
}

fn with_users_in_etc(users: u32) -> Result {
    for (path, lines) in [
        ("/etc/passwd", population::passwd(users)),
        ("/etc/group", population::group(users)),
    ] {
        let system = fs::read_to_string(path)?;
        replace(path, &(system + &lines))?;
    }
    Ok(())
}

fn drop_ins(users: u32) -> Result {
    let folder = Path::new("/run/userdb");
    fs::create_dir(folder)?;
    for number in 0..users {
        for (name, content, link) in population::drop_ins(number) {
            fs::write(folder.join(&name), content)?;
            if let Some(link) = link {
                symlink(&name, folder.join(link))?;
            }
        }
    }
    Ok(())
}

/// A daemon that dies with this worker.
fn daemon(command: &str, arguments: &[&str]) -> Result {
    let mut command = Command::new(command);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: prctl is async-signal-safe and touches nothing but the child.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    command.spawn()?;
    Ok(())
}

fn until(what: &str, done: impl Fn() -> bool) -> Result {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > Duration::from_secs(30) {
            return Err(format!("not within 30 s: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Makes its own socket and the links that name what it answers for, where nobody has made them.
fn userdbd() -> Result {
    daemon("/usr/lib/systemd/systemd-userdbd", &[])?;
    let socket = Path::new("/run/systemd/userdb/io.systemd.DropIn");
    until("systemd-userdbd's socket", || socket.exists())
}

/// By Debian's own configuration, but that users and groups do not expire while they are measured.
fn nscd() -> Result {
    fs::create_dir("/run/nscd")?;
    // What it keeps on disk, for this world.
    tmpfs("/var/cache/nscd", "mode=0755")?;
    let conf: String = fs::read_to_string("/etc/nscd.conf")?
        .lines()
        .map(
            |line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                [
                    time @ ("positive-time-to-live" | "negative-time-to-live"),
                    database @ ("passwd" | "group"),
                    _,
                ] => format!("{time} {database} 86400\n"),
                _ => format!("{line}\n"),
            },
        )
        .collect();
    replace("/etc/nscd.conf", &conf)?;
    daemon("/usr/sbin/nscd", &["--foreground"])?;
    until("nscd's socket", || Path::new("/run/nscd/socket").exists())
}

/// SSSD over nss_files. It alone sees the users in /etc; its clients have to come to it.
fn sssd(users: u32) -> Result {
    // Its folders, in a place of its own for each worker.
    let copied = Command::new("cp")
        .args(["-a", "/var/lib/sss", "/run/files/sss"])
        .status()?;
    if !copied.success() {
        return Err("copying SSSD's folders".into());
    }
    mount(
        Some("/run/files/sss"),
        "/var/lib/sss",
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    let mut permissions = fs::metadata("/etc/sssd")?.permissions();
    tmpfs("/etc/sssd", "mode=0755")?;
    fs::write("/etc/sssd/sssd.conf", SSSD_CONF)?;
    permissions.set_mode(0o600);
    fs::set_permissions("/etc/sssd/sssd.conf", permissions)?;
    let system = [fs::read("/etc/passwd")?, fs::read("/etc/group")?];
    with_users_in_etc(users)?;
    daemon("/usr/sbin/sssd", &["-i", "--logger=files"])?;
    until("SSSD's socket", || {
        Path::new("/var/lib/sss/pipes/nss").exists()
    })?;
    // From here on without the users in /etc.
    own_mounts()?;
    for (path, content) in ["/etc/passwd", "/etc/group"].into_iter().zip(system) {
        let copy = format!("/run/files/system{}", path.replace('/', "-"));
        fs::write(&copy, content)?;
        mount(
            Some(copy.as_str()),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
    }
    Ok(())
}
