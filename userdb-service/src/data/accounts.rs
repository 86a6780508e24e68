//! The one way from the data plane to the published table.
//! Only reading; what is in it is the control plane's.

use std::ffi::CStr;

use account_table::{DEFAULT_PATH, TableCell, TableRef, Trust};

/// The table of live accounts: mapped when it is first needed, and anew when it is replaced.
#[derive(Debug)]
pub struct Accounts(TableCell);

impl Accounts {
    /// The table that teleport-sessiond publishes.
    #[must_use]
    pub fn published() -> Accounts {
        Accounts::at(DEFAULT_PATH, Trust::Root)
    }

    /// The table at `path`, believed if it is `trust`'s.
    #[must_use]
    pub fn at(path: &'static CStr, trust: Trust) -> Accounts {
        Accounts(TableCell::new(path, trust))
    }

    /// The table as it is now; `None` if there is none: then there are no accounts.
    pub(super) fn now(&self) -> Option<TableRef> {
        self.0.get()
    }
}
