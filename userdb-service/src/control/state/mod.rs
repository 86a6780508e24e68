//! What is written down of sessions, users and used IDs, in a `folder` of files that a restart takes up again. `notes` keeps it true
//! to the registry; who is in the table and not in it is `stranded`; `stuck` is beside it, for who looks.

mod folder;
pub(super) mod notes;
mod stranded;
mod stuck;
mod taken_up;

pub use folder::{FOLDER, Loaded, StateDir};
pub use stuck::StuckRight;
