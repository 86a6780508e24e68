//! Generates the types of the userdb interface from its IDL.

fn main() {
    varlink_generator::cargo_build("src/data/io.systemd.UserDatabase.varlink");
}
