//! The policy against its rules: each test names one and can fail. No I/O, no root.

#![allow(missing_docs, unreachable_pub, reason = "test code")]

mod config;
mod config_hints;
mod explain;
mod ids;
mod keys;
mod names;
mod notes;
mod page;
mod reserved;
mod rfd57;
mod rights;
mod sentences;
mod sessions;
mod world;
