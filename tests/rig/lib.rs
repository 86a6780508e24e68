//! The rig: boots Debian with systemd as PID 1 and runs things inside, for tests and the demo.
//! Nothing of the product's behaviour is imitated here: what the tests see is what the package does.
//!
//! A [`Machine`] is one booted container. It lives in a mount namespace and a cgroup of its own and
//! goes away with the process that booted it, however that process ends.

mod command;
mod etc;
mod freezing;
mod hanging;
mod heir;
mod image;
mod journal;
mod login;
mod machine;
mod mirror;
mod node;
mod package;
mod trouble;

pub use command::Ran;
pub use etc::Etc;
pub use freezing::Disk;
pub use hanging::hang;
pub use heir::takes_pid;
pub use image::{Suite, image_with};
pub use journal::Journal;
pub use login::{Ended, Event, Login, LoginBuilder};
pub use machine::{Machine, Storage};
pub use node::{LOCAL_GROUP, LOCAL_USER, boot_node, boot_node_on, node, node_alone};
pub use package::package_file;
pub use trouble::{Result, Trouble};
