//! `teleport-userdbd`: answers io.systemd.UserDatabase from the published table.

fn main() -> std::process::ExitCode {
    userdb_service::data::daemon::run()
}
