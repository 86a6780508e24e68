//! The machine that the tests of one binary share: Debian with the package, the container client, and locals.
//! Tests that stop services or judge the whole journal take it alone; all others share it.

use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{Machine, Result, Storage, Suite};

/// A local user of every node, to see that locals are left alone.
pub const LOCAL_USER: &str = "walter";
/// A local group of every node without a user of that name.
pub const LOCAL_GROUP: &str = "crew";

/// The node, used side by side with other tests: use logins of your own.
#[track_caller]
pub fn node() -> RwLockReadGuard<'static, Machine> {
    lock()
        .read()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The node while no other test uses it.
#[track_caller]
pub fn node_alone() -> RwLockWriteGuard<'static, Machine> {
    lock()
        .write()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Boots `suite` as a Teleport node: package, client and locals are in.
pub fn boot_node(suite: Suite) -> Result<Machine> {
    boot_node_on(Storage::Memory, suite)
}

/// The same with what it writes in a place of the caller's choice.
pub fn boot_node_on(storage: Storage, suite: Suite) -> Result<Machine> {
    let machine = Machine::boot_on(storage, suite)?;
    machine
        .run(&["useradd", "-m", "-s", "/bin/sh", LOCAL_USER])
        .must();
    machine.run(&["groupadd", LOCAL_GROUP]).must();
    machine.install_client()?;
    machine.install_package()?.must();
    Ok(machine)
}

#[track_caller]
fn lock() -> &'static RwLock<Machine> {
    static NODE: OnceLock<Result<RwLock<Machine>>> = OnceLock::new();
    match NODE.get_or_init(|| Ok(RwLock::new(boot_node(Suite::chosen()?)?))) {
        Ok(node) => node,
        Err(trouble) => panic!("{trouble}"),
    }
}
