//! What logins may do by sudo, as files in `/etc/sudoers.d`: `rights` says which of them are to be there and when, and waits for the
//! disk, also for what others have ordered (`awaited`); `thread` puts them there by way of `files`, some `ahead` of their grant; `check` asks visudo; `room` counts them.

mod ahead;
mod answer;
mod awaited;
pub mod check;
pub mod files;
pub(super) mod rights;
mod room;
pub(crate) mod sudo_rs;
pub(super) mod thread;
