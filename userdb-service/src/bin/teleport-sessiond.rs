//! `teleport-sessiond`: owns the login sessions of this node and publishes their users.

fn main() {}
