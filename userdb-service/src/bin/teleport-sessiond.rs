//! `teleport-sessiond`: owns the login sessions of this node and publishes their users.

use std::process::ExitCode;

fn main() -> ExitCode {
    userdb_service::control::main()
}
