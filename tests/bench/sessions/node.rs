//! The booted node that everything is measured on: our package, the script and the floor side by side, a PAM service each.
//! What is measured is of `main`; here is how one burst of logins is made.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bench::{compile, median};
use rig::{Machine, Storage, Suite, boot_node_on};

use crate::Result;

/// Ours without a home, ours with an ephemeral home, useradd and userdel from pam_exec with pam_motd as documented and without it,
/// the floor in C, and the floor that asks no name service about the login.
pub(crate) const SUBJECTS: [&str; 6] = [
    "ours",
    "ours, with home",
    "script",
    "script, no motd",
    "floor",
    "floor, asking nobody",
];

/// Teleport's documentation of PAM has it in the account phase; the end of the session, of which that says nothing, removes the user.
/// It does not write a sudoers file.
const SCRIPT: &str = r#"#!/bin/sh
case "$PAM_TYPE" in
account)
    COMMENT="User $TELEPORT_USERNAME with roles $TELEPORT_ROLES created by Teleport."
    id -u "$TELEPORT_LOGIN" >/dev/null 2>&1 || /sbin/useradd -m -c "$COMMENT" "$TELEPORT_LOGIN" 2>/tmp/pam.error
    ;;
close_session) /sbin/userdel -r "$PAM_USER" >/dev/null 2>&1 ;;
esac
exit 0
"#;
/// The documented stack, and the end. On Debian pam_motd runs what is in /etc/update-motd.d.
const SCRIPT_STACK: &str = "account required pam_exec.so /usr/local/bin/useradd-script\n\
                            session required pam_motd.so\n\
                            session required pam_permit.so\n\
                            session required pam_exec.so type=close_session /usr/local/bin/useradd-script\n";

/// Everybody is to have a sudoers file, however many are on.
const CONFIG: &str = "pam-services = [\"ours\"]\n\
                      [sudo]\nmax-files = 100000\n\
                      [[role]]\nmatch = \"bench\"\ncreate-user = true\nsudo = true\n";

const LOGINS: &str = "/usr/local/bin/pam_logins";

/// How long a thousand logins may take to end.
const SETTLED: Duration = Duration::from_secs(300);

/// Sessions that stay until this is dropped.
pub(crate) struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

pub(crate) struct Node {
    pub(crate) machine: Machine,
    few: [(&'static str, String); 4],
    floor: Child,
    built: PathBuf,
    retire_delay: &'static str,
}

/// A burst of logins.
pub(crate) struct Burst {
    /// Milliseconds: the median of each, or of all until the last one is in.
    pub(crate) login: f64,
    pub(crate) logout: f64,
    pub(crate) wrong: usize,
}

impl Node {
    pub(crate) fn boot() -> Result<Node> {
        // Whoever logs in waits for the disk.
        let machine = boot_node_on(Storage::Disk, Suite::chosen()?)?;
        let built = std::env::temp_dir().join(format!("bench-sessions-{}", std::process::id()));
        fs::create_dir_all(&built)?;
        for (source, arguments, output) in [
            ("pam_logins.c", &[][..], "pam_logins"),
            ("sessions_floor.c", &[], "sessions_floor"),
            ("pam_floor.c", &["-shared", "-fPIC"], "pam_floor.so"),
        ] {
            let program = compile(source, arguments, &built, output)?;
            machine.copy_in(&program, &format!("/usr/local/bin/{output}"))?;
        }
        machine.write("/usr/local/bin/useradd-script", SCRIPT);
        machine
            .run(&["chmod", "755", "/usr/local/bin/useradd-script"])
            .must();
        let stack =
            |module: &str| format!("account required {module}\nsession required {module}\n");
        machine.write("/etc/pam.d/ours", &stack("pam_teleport.so"));
        machine.write("/etc/pam.d/script", SCRIPT_STACK);
        let without_motd = SCRIPT_STACK.lines().filter(|line| !line.contains("motd"));
        let without_motd: String = without_motd.map(|line| format!("{line}\n")).collect();
        machine.write("/etc/pam.d/script-no-motd", &without_motd);
        machine.write("/etc/pam.d/floor", &stack("/usr/local/bin/pam_floor.so"));
        machine.write(
            "/etc/pam.d/floor-alone",
            &stack("/usr/local/bin/pam_floor.so alone"),
        );
        let floor = machine
            .command(&["/usr/local/bin/sessions_floor"])
            .spawn()?;
        let read = |name: &'static str| -> Result<(&'static str, String)> {
            Ok((
                name,
                fs::read_to_string(machine.root().join("etc").join(name))?,
            ))
        };
        let few = [
            read("passwd")?,
            read("shadow")?,
            read("group")?,
            read("gshadow")?,
        ];
        let node = Node {
            machine,
            few,
            floor,
            built,
            // What ends a user is to come after what is counted.
            retire_delay: "5s",
        };
        node.configure(true)?;
        Ok(node)
    }

    /// From here on users end soon after they have gone.
    pub(crate) fn retire_soon(&mut self) {
        self.retire_delay = "1s";
    }

    /// With or without homes: the role says so, and a reload is not part of any figure.
    fn configure(&self, homes: bool) -> Result {
        let home = if homes { "" } else { "home = \"none\"\n" };
        let path = "/etc/teleport-userdb/config.d/10-bench.toml";
        let text = format!("retire-delay = \"{}\"\n{CONFIG}{home}", self.retire_delay);
        if fs::read_to_string(self.machine.root().join(&path[1..])).is_ok_and(|now| now == text) {
            return Ok(());
        }
        self.machine.write(path, &text);
        self.machine
            .run(&["systemctl", "restart", "teleport-sessiond"])
            .must();
        self.machine.run(&["teleport-userdbctl", "sessions"]).must();
        Ok(())
    }

    /// So many local users beside the few of the image.
    pub(crate) fn have_users(&mut self, users: usize) -> Result {
        let mut added = [String::new(), String::new(), String::new(), String::new()];
        for index in 0..users {
            let (name, id) = (format!("local{index}"), 20_000 + index);
            added[0] += &format!("{name}:x:{id}:{id}::/home/{name}:/bin/sh\n");
            added[1] += &format!("{name}:!:20000:0:99999:7:::\n");
            added[2] += &format!("{name}:x:{id}:\n");
            added[3] += &format!("{name}:!::\n");
        }
        for ((name, few), more) in self.few.iter().zip(added) {
            let path = self.machine.root().join("etc").join(name);
            let mut file = fs::File::options().write(true).truncate(true).open(path)?;
            file.write_all(few.as_bytes())?;
            file.write_all(more.as_bytes())?;
        }
        // On disk, lest the syncs of the logins to come write it, or wait until the disk has freed what was there before.
        nix::unistd::sync();
        std::thread::sleep(Duration::from_secs(1));
        nix::unistd::sync();
        // What changed a moment ago is read again at every login, lest it changes once more.
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    }

    pub(crate) fn have_only_few(&mut self) -> Result {
        self.have_users(30)
    }

    /// So many logins, one after the other or all at once.
    pub(crate) fn logins(
        &self,
        subject: &str,
        prefix: &str,
        count: usize,
        parallel: bool,
        look: bool,
    ) -> Result<Burst> {
        let service = match subject {
            "ours, with home" => "ours",
            "floor, asking nobody" => "floor-alone",
            "script, no motd" => "script-no-motd",
            other => other,
        };
        if service == "ours" {
            self.configure(subject == "ours, with home")?;
        }
        // What those before have left for the disk is not to be waited for by these.
        nix::unistd::sync();
        let ran = self.machine.run_for(
            Duration::from_secs(300),
            &[
                LOGINS,
                service,
                prefix,
                &count.to_string(),
                if parallel { "parallel" } else { "serial" },
                if look { "yes" } else { "no" },
            ],
        );
        let (mut logins, mut logouts, mut wrong) = (Vec::new(), Vec::new(), 0);
        for line in ran.must().lines() {
            let (first, second) = line.split_once(' ').ok_or("pam_logins says odd things")?;
            if first == "wrong" {
                wrong = second.parse()?;
            } else {
                logins.push(first.parse::<f64>()? / 1e6);
                logouts.push(second.parse::<f64>()? / 1e6);
            }
        }
        Ok(Burst {
            login: median(&logins),
            logout: median(&logouts),
            wrong,
        })
    }

    /// So many sessions of as many users, which stay until the guard is dropped.
    pub(crate) fn hold(&self, prefix: &str, count: usize) -> Result<Held> {
        self.configure(false)?;
        let count = count.to_string();
        let mut child = self
            .machine
            .command(&[LOGINS, "ours", prefix, &count, "held", "no"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut told = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut told)?;
        }
        let held = Held(child);
        match told.trim() {
            "held" => Ok(held),
            _ => Err(format!("pam_logins cannot hold sessions: {told:?}").into()),
        }
    }

    /// Waits until nothing of ours is left to end, of the logins that are there but the live ones.
    pub(crate) fn settle(&self, live: usize) -> Result {
        let logins = self.machine.root().join("run/teleport-sessiond/logins");
        let began = Instant::now();
        while fs::read_dir(&logins)?.count() > live {
            if began.elapsed() > SETTLED {
                return Err("logins do not come to their end".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.floor.kill();
        let _ = self.floor.wait();
        let _ = fs::remove_dir_all(&self.built);
    }
}
