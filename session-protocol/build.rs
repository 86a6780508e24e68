//! Generates the types of the varlink interface from its IDL.

fn main() {
    varlink_generator::cargo_build("src/com.goteleport.Sessions.varlink");
}
