//! The helpers that are the daemon's own binary, and how they are told from the daemon: its janitors, and the
//! lookup workers that systemd starts. Dispatch only: each helper is a room of its own.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::control::end::janitor;
use crate::control::lookup;

/// Runs the helper that the first argument names; `None` if it names none and the daemon is meant.
/// Must come first in `main`: the helpers share nothing with the daemon.
pub(super) fn run_if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let helper = arguments.next()?;
    let outcome = match helper.to_str()? {
        lookup::WORKER_ARGUMENT => lookup::worker::run().map_err(|e| e.to_string()),
        janitor::JANITOR_ARGUMENT => janitor::run(arguments),
        _ => return None,
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{}: {why}", helper.display());
            ExitCode::FAILURE
        }
    })
}
