//! `teleport-userdbctl`: shows and explains what the daemons do.

fn main() {}
