//! The host as the daemon touches it everywhere: files, `/proc`, time. Each way is one that nobody can hold the
//! daemon up by, or lead it astray on. Nothing here knows what a session is.

pub(super) mod blocking_pool;
pub mod clock;
pub(super) mod descriptors;
pub(super) mod look;
pub(super) mod mount_table;
pub(super) mod plain_root;
pub(super) mod proc_files;
pub(super) mod regular;
#[cfg(test)]
pub(super) mod stalled_disk;
