//! The command line of `teleport-sessiond`: the daemon itself, its helpers, and three small errands.
//!
//! The helpers are this same binary, so that they are of the same version as the daemon that asks them.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use account_table::{Trust, Writer};
use nix::unistd::geteuid;

use super::children;
use crate::control::configuration::config_files;
use crate::control::daemon;
use crate::control::daemon::alone::alone;
use crate::control::end::mounts;
use crate::control::homes::home_mount;
use crate::control::publication::socket_mark;
use crate::control::state;
use crate::control::sudo::check::{SudoersCheck, Withheld};
use crate::control::sudo::files::SudoersFiles;
use crate::policy::sudoers::SUDOERS_D;
use crate::runtime::journal;

const USAGE: &str = "\
teleport-sessiond [OPTION]

Owns the login sessions of this node and publishes their users. Started by systemd.

  --check    read the configuration, say what is wrong with it, and exit (0: good, 1: wrong)
  --sweep    remove every sudoers file that teleport-sessiond has written, and exit
  --sweep-unless-running
             the same, but nothing while a daemon runs, whose sessions have them
  --sweep-patiently
             the same, however long the disk takes; for the removal of the package
  --mount-homes
             WHAT WHERE [-o OPTIONS]: mount a tmpfs for homes, with quotas where the kernel has them; for mount(8)
  --unmount  UID-LOGIN: detach what that user has mounted, and exit; for teleport-unmount@.service
  --mark-socket
             note on the userdb socket which UIDs may be ours, where the kernel can, and exit
  --retire   withdraw every account and remove the published table, and exit; only while no daemon runs
  --version  print the version, and exit
  --help     print this, and exit
";

/// How long a daemon is waited for that has been told to stop.
const ENDED: Duration = Duration::from_secs(5);
/// Exit status for a command line that makes no sense.
const WRONG_USE: u8 = 2;

/// Runs what the process's arguments ask for.
pub fn main() -> ExitCode {
    if let Some(status) = children::run_if_asked(std::env::args_os().skip(1)) {
        return status;
    }
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => {
            journal::start();
            match daemon::run() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    journal::last_words(&error);
                    ExitCode::FAILURE
                }
            }
        }
        ["--check"] => check(),
        // Who may not even look would find nothing, and say that nothing is left.
        ["--sweep" | "--sweep-unless-running" | "--sweep-patiently"] if !geteuid().is_root() => {
            eprintln!("only root can remove sudoers files");
            ExitCode::FAILURE
        }
        ["--sweep"] => sweep(),
        ["--sweep-patiently"] => sweep_now(),
        ["--sweep-unless-running"] => match alone(Path::new(state::FOLDER), MOMENT) {
            Ok(None) => {
                println!("the daemon runs and looks after its files");
                ExitCode::SUCCESS
            }
            // It is kept from starting until this is done.
            Ok(Some(_alone)) => sweep(),
            // It has not run in this boot.
            Err(error) if error.kind() == ErrorKind::NotFound => sweep(),
            Err(error) => {
                eprintln!(
                    "it cannot be seen whether the daemon runs: {}: {error}",
                    state::FOLDER
                );
                ExitCode::FAILURE
            }
        },
        ["--mark-socket"] => socket_mark::run(),
        ["--retire"] => retire(),
        ["--mount-homes", request @ ..] => mount_homes(request),
        ["--unmount", instance] => unmount(instance),
        ["--version"] => {
            println!("teleport-sessiond {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("teleport-sessiond does not know these arguments.\n\n{USAGE}");
            ExitCode::from(WRONG_USE)
        }
    }
}

fn check() -> ExitCode {
    let mut config = match config_files::load_as_the_daemon(Path::new("/")) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let withheld = match SudoersCheck::default().withhold_refused_blocking(&mut config) {
        Ok(withheld) => withheld,
        Err(error) => {
            eprintln!("visudo cannot be asked: {error}");
            return ExitCode::FAILURE;
        }
    };
    for role in &withheld {
        eprintln!("{role}");
    }
    if withheld
        .iter()
        .any(|role| !matches!(role, Withheld::NoVisudo(_)))
    {
        return ExitCode::FAILURE;
    }
    println!("The configuration is good.");
    ExitCode::SUCCESS
}

/// How long others may take to look whether the daemon runs.
const MOMENT: Duration = Duration::from_millis(200);
/// How long a sweep may wait for the disk.
const SWEEP: Duration = Duration::from_secs(5);

/// At boot and after the daemon has been stopped: whatever it granted, it grants no more.
///
/// On a thread, since whose main thread waits for a disk that stalls cannot be ended, and keeps the next daemon from working, see
/// [`alone`]. The thread ends with us: once the disk answers, the one file that it was at goes, and the others stay. So whoever runs a
/// sweep that matters tries again (teleport-sudoers-withdrawal.service), or, where there will be nothing to try with, waits for as long as
/// it takes (--sweep-patiently).
fn sweep() -> ExitCode {
    let (done, is_done) = mpsc::channel();
    let swept = thread::Builder::new()
        .name("sweep".to_owned())
        .spawn(move || done.send(sweep_now()));
    match swept.map(|_| is_done.recv_timeout(SWEEP)) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            eprintln!("{SUDOERS_D}: no answer within {SWEEP:?}; its disk stalls");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("no thread to work in {SUDOERS_D} with: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Trap: whoever has started it may listen no more when the disk answers at last, so nothing here that panics where it cannot print.
fn sweep_now() -> ExitCode {
    match SudoersFiles::new(SUDOERS_D).sweep(&BTreeSet::new()) {
        Ok(swept) => {
            for name in swept.removed {
                let _ = writeln!(io::stdout(), "removed {SUDOERS_D}/{name}");
            }
            for doubt in swept.doubtful {
                let _ = writeln!(io::stderr(), "{doubt}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// For mount(8), as root of the whole system; on success another program goes on in our place.
fn mount_homes(request: &[&str]) -> ExitCode {
    match home_mount::run(request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// When a login has ended, in a unit of its own: the daemon has neither the right nor the host's view of mounts.
fn unmount(instance: &str) -> ExitCode {
    match mounts::run(instance) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// When the package is removed: processes that have the table mapped must not go on answering from it.
fn retire() -> ExitCode {
    let path = Path::new(daemon::TABLE);
    if !path.exists() {
        return ExitCode::SUCCESS;
    }
    // Two who write would damage it.
    let _alone = match alone(Path::new(state::FOLDER), ENDED) {
        Ok(None) => {
            eprintln!("teleport-sessiond runs, and its users live; stop it first");
            return ExitCode::FAILURE;
        }
        // Nobody has run in this boot.
        Err(_) => None,
        Ok(alone) => alone,
    };
    match Writer::open(path, Trust::Root).and_then(Writer::retire) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", daemon::TABLE);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_stands_in_the_manual_page() {
        let page = include_str!("../../../../docs/man/teleport-sessiond.8").replace("\\-", "-");
        let options: Vec<&str> = USAGE
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
            .collect();
        assert!(options.len() > 7, "{options:?}");
        for option in options {
            let is_told = page.lines().any(|line| {
                let words = line.strip_prefix(".B");
                words.is_some_and(|words| words.split_whitespace().any(|word| word == option))
            });
            assert!(is_told, "the manual page lacks {option}");
        }
    }
}
