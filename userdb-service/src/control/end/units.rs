//! How what systemd has of a user is called.

/// What all of the user's units are in.
pub(super) fn slice_unit(uid: u32) -> String {
    format!("user-{uid}.slice")
}

/// Below a hierarchy of cgroups.
pub(super) fn slice_of(uid: u32) -> String {
    format!("user.slice/user-{uid}.slice")
}

/// Makes `/run/user/UID`, and empties and removes it when it is stopped.
pub(super) fn runtime_dir_unit(uid: u32) -> String {
    format!("user-runtime-dir@{uid}.service")
}

/// The unit whose folder this is. systemd names that of one which is called like a file of the kernel's so.
pub(super) fn unit_of(folder: &str) -> &str {
    folder.strip_prefix('_').unwrap_or(folder)
}
