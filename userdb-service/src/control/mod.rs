//! The control plane: sessions, their leaders, and everything that is done for them.
//! Nobody's lookup waits for anything in this folder.
//!
//! [`registry`] is the state machine and knows nothing of the outside; every other folder here is a part
//! of its rim. [`daemon`] holds them together: what it is called for comes in by [`calls`], what the registry
//! asks for is carried out by `daemon::effects`.

mod calls;
pub mod configuration;
mod daemon;
pub mod end;
pub mod homes;
pub mod host;
pub mod leader;
pub mod lookup;
mod publication;
pub mod registry;
pub mod state;
pub mod sudo;

pub use daemon::start::main;
