//! `teleport-userdbctl`: how administrators see what goes on.

pub mod explain;
