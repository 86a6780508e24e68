//! The children that the daemon runs from its own binary, and how they are told from the daemon.
//! Dispatch only: each child is a room of its own.

use std::ffi::OsString;
use std::process::ExitCode;

use super::{janitor, lookup};

/// Runs the child that the first argument names; `None` if it names none and the daemon is meant.
/// Must come first in `main`: the children inherit nothing of the daemon.
pub fn run_if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let child = arguments.next()?;
    let outcome = match child.to_str()? {
        lookup::WORKER_ARGUMENT => lookup::worker::run().map_err(|e| e.to_string()),
        janitor::JANITOR_ARGUMENT => janitor::run(arguments),
        _ => return None,
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{}: {why}", child.display());
            ExitCode::FAILURE
        }
    })
}
