//! The published table of live accounts: one file in shared memory, one writer, any number of readers that never wait for it.
//! Its layout, its readers and its writer live here; what is published, and when, is decided elsewhere.
//!
//! docs/account-table.md explains the layout and why readers can trust what they see.
//!
//! ```no_run
//! use account_table::{Lookup, process_table};
//!
//! if let Some(table) = process_table()
//!     && let Lookup::Found(account) = table.user_by_name(b"alice")
//! {
//!     println!("{} has uid {}", account.login(), account.uid());
//! }
//! ```
#![cfg_attr(not(any(test, feature = "writer", loom)), no_std)]
#![deny(unsafe_code)]

#[cfg(any(test, feature = "writer", loom))]
extern crate core;

mod account;
mod atomic;
mod direct;
mod group;
mod layout;
mod listing;
#[allow(unsafe_code)]
mod memory;
mod reader;
mod record;
mod table;
#[cfg(feature = "writer")]
mod writer;

pub use account::{Account, MembershipRef, Version};
pub use direct::{Fitting, Memberships, Passwd, PrivateGroup, TooSmall};
pub use group::Group;
pub use listing::Cursor;
pub use memory::KeepErrno;
pub use reader::Lookup;
pub use record::{Disposition, GroupOrigin, MAX_NAME};
pub use table::{DEFAULT_PATH, Table, TableCell, TableRef, Trust, process_table};
#[cfg(feature = "writer")]
pub use writer::{AccountSpec, GroupSpec, WriteError, Writer};
