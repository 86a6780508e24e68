//! The published table of live accounts.
