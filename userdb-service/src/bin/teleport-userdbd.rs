//! `teleport-userdbd`: answers io.systemd.UserDatabase from the published table.

fn main() {}
