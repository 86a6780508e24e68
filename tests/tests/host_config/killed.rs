//! `packaging/host-config` killed at each of its steps, or with one that fails: whichever task is run afterwards finishes it, and nothing is left.
//! A step is a program that changes a file; each is stood in for by one that kills the script instead.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use super::{Result, Root};

/// Kills the script before step `$KILLED_AT`, fails at step `$FAILED_AT`, and does what it is named after otherwise (but for sync, which
/// takes long on a busy disk).
const STEP: &str = r#"#!/bin/sh
read -r step <"$STEPS"
echo "$((step + 1))" >"$STEPS"
if [ "$step" = "$KILLED_AT" ]; then exec kill -KILL "$PPID"; fi
if [ "$step" = "$FAILED_AT" ]; then exit 1; fi
[ "${0##*/}" = sync ] || PATH=${PATH#*:} exec "${0##*/}" "$@"
"#;

/// Folders of such tools: those that kill, and a sync that takes no time.
const DEADLY: &str = "deadly";
const HARMLESS: &str = "harmless";

const SHIPPED: &str = "usr/lib/teleport-userdb/pam.d/teleport";
const PAM: &str = "etc/pam.d/teleport";

/// As a plain Debian has it.
const PLAIN: &str = "passwd: files systemd\ngroup: files systemd\n";
/// One line names us already: that was an administrator.
const HALF: &str = "passwd: files systemd\ngroup: files teleport systemd\n";

/// A root whose script can be killed at each of its steps.
struct Fragile {
    root: Root,
    tools: Root,
}

impl Fragile {
    fn new(name: &str, nsswitch: &str) -> Result<Fragile> {
        let tools = Root::new(&format!("{name}-tools"), "")?;
        for folder in [DEADLY, HARMLESS] {
            fs::create_dir(tools.0.join(folder))?;
        }
        let deadly = ["mv", "sync", "rm", "cp", "chmod", "mkdir", "rmdir"];
        let all = deadly.map(|tool| (DEADLY, tool, STEP));
        for (folder, tool, text) in all.into_iter().chain([(HARMLESS, "sync", "#!/bin/sh\n")]) {
            let tool = format!("{folder}/{tool}");
            tools.write(&tool, text)?;
            fs::set_permissions(tools.0.join(tool), fs::Permissions::from_mode(0o755))?;
        }
        let root = Root::new(name, nsswitch)?;
        Ok(Fragile { root, tools })
    }

    fn enabled(name: &str, nsswitch: &str) -> Result<Fragile> {
        let fragile = Fragile::new(name, nsswitch)?;
        fragile.run("enable", "new")?;
        Ok(fragile)
    }

    fn command(&self, task: &str, tools: &str) -> Result<Command> {
        let tools = self.tools.0.join(tools);
        let path = format!("{}:{}", tools.display(), env::var("PATH")?);
        let mut command = self.root.command(task);
        command.env("PATH", path);
        Ok(command)
    }

    /// Was there a step `step` to be killed at?
    fn killed_at(&self, task: &str, step: u32) -> Result<bool> {
        self.tools.write("steps", "1\n")?;
        let mut command = self.command(task, DEADLY)?;
        command
            .env("STEPS", self.tools.0.join("steps"))
            .env("KILLED_AT", step.to_string());
        let output = command.output()?;
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{task}: {output:?}");
        Ok(killed)
    }

    /// Was there a step `step` to fail at, as on a full disk? The script may fail, too, or do without.
    fn failed_at(&self, task: &str, step: u32) -> Result<bool> {
        self.tools.write("steps", "1\n")?;
        let mut command = self.command(task, DEADLY)?;
        command
            .env("STEPS", self.tools.0.join("steps"))
            .env("FAILED_AT", step.to_string());
        let output = command.output()?;
        assert_eq!(output.status.signal(), None, "{task}: {output:?}");
        Ok(self.tools.read("steps")?.trim().parse::<u32>()? > step)
    }

    /// Runs the script to its end, with nothing to complain about.
    #[track_caller]
    fn run(&self, task: &str, when: &str) -> Result {
        let output = self.command(task, HARMLESS)?.output()?;
        assert!(output.status.success(), "{when}, then {task}: {output:?}");
        assert_eq!(output.stderr, b"", "{when}, then {task}: {output:?}");
        Ok(())
    }

    /// Names and contents of all files and folders.
    fn tree(&self) -> Result<BTreeMap<PathBuf, Option<String>>> {
        let (mut found, mut folders) = (BTreeMap::new(), vec![self.root.0.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                let is_folder = path.symlink_metadata()?.is_dir();
                let text = (!is_folder).then(|| fs::read_to_string(&path));
                folders.extend(is_folder.then(|| path.clone()));
                found.insert(
                    path.strip_prefix(&self.root.0)?.to_owned(),
                    text.transpose()?,
                );
            }
        }
        Ok(found)
    }
}

/// Kills `task` at each step that it has in a root as `made` makes it; then runs `after`.
fn at_every_step(
    task: &str,
    made: impl Fn() -> Result<Fragile>,
    after: impl Fn(&Fragile, &str) -> Result,
) -> Result {
    for step in 1.. {
        let fragile = made()?;
        if !fragile.killed_at(task, step)? {
            assert!(step > 5, "{task} has {step} steps");
            break;
        }
        after(&fragile, &format!("{task} killed at step {step}"))?;
    }
    Ok(())
}

/// Kills `task` at each step in a root as `made` makes it: "disable" must make of it what there was before, "enable" what it
/// always makes of that, and "disable" after it as well.
fn must_be_finished(
    task: &str,
    name: &str,
    nsswitch: &str,
    made: impl Fn() -> Result<Fragile>,
) -> Result {
    let untouched = Fragile::new(&format!("{name}-untouched"), nsswitch)?;
    let before = untouched.tree()?;
    untouched.run("enable", "new")?;
    let with_us = untouched.tree()?;
    let disabled = |fragile: &Fragile, when: &str| {
        fragile.run("disable", when)?;
        assert_eq!(fragile.tree()?, before, "{when}, then disable");
        Ok(())
    };
    at_every_step(task, &made, disabled)?;
    at_every_step(task, &made, |fragile, when| {
        fragile.run("enable", when)?;
        assert_eq!(fragile.tree()?, with_us, "{when}, then enable");
        disabled(fragile, when)
    })
}

#[test]
fn an_enable_that_was_killed_is_finished_or_taken_back() -> Result {
    let name = "killed-enable";
    must_be_finished("enable", name, PLAIN, || Fragile::new(name, PLAIN))
}

#[test]
fn of_an_enable_that_was_killed_the_line_of_an_administrator_stays() -> Result {
    let name = "killed-half";
    must_be_finished("enable", name, HALF, || Fragile::new(name, HALF))
}

#[test]
fn a_disable_that_was_killed_is_finished_or_taken_back() -> Result {
    let name = "killed-disable";
    must_be_finished("disable", name, PLAIN, || Fragile::enabled(name, PLAIN))
}

#[test]
fn an_enable_of_which_a_step_failed_is_finished_or_taken_back() -> Result {
    let name = "failed-enable";
    let untouched = Fragile::new(&format!("{name}-untouched"), PLAIN)?;
    let before = untouched.tree()?;
    untouched.run("enable", "new")?;
    let with_us = untouched.tree()?;
    for step in 1.. {
        for finished in [false, true] {
            let fragile = Fragile::new(name, PLAIN)?;
            if !fragile.failed_at("enable", step)? {
                assert!(step > 5, "enable has {step} steps");
                return Ok(());
            }
            let when = format!("enable failed at step {step}");
            if finished {
                fragile.run("enable", &when)?;
                assert_eq!(fragile.tree()?, with_us, "{when}, then enable");
            }
            fragile.run("disable", &when)?;
            assert_eq!(fragile.tree()?, before, "{when}, then disable");
        }
    }
    Ok(())
}

/// An older version of ours is in place, and the one to follow it.
fn upgraded() -> Result<Fragile> {
    let fragile = Fragile::enabled("killed-upgrade", PLAIN)?;
    fragile.root.write(SHIPPED, "# newer\n")?;
    Ok(fragile)
}

#[test]
fn killed_while_the_pam_file_follows_the_package_it_is_ours_all_the_same() -> Result {
    at_every_step("enable", upgraded, |fragile, when| {
        fragile.root.write(SHIPPED, "# newest\n")?;
        fragile.run("enable", when)?;
        assert_eq!(fragile.root.read(PAM)?, "# newest\n", "{when}");
        Ok(())
    })?;
    at_every_step("enable", upgraded, |fragile, when| {
        fragile.run("disable", when)?;
        assert!(!fragile.root.exists(PAM), "{when}");
        Ok(())
    })
}
