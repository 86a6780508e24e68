//! `teleport-sessiond`: owns the login sessions of this node and publishes their users.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = userdb_service::control::children::run_if_asked(std::env::args_os().skip(1))
    {
        return code;
    }
    ExitCode::SUCCESS
}
