//! `teleport-userdbctl`: shows and explains what the daemons do.

use std::process::ExitCode;

fn main() -> ExitCode {
    userdb_service::cli::main()
}
