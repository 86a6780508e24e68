//! The control plane: sessions, their leaders, and everything that is done for them.

pub mod admission;
pub mod children;
pub mod leader;
pub mod logind;
pub mod lookup;
pub mod sudoers_files;
