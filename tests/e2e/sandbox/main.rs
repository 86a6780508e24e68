//! What our services may do and what they cannot spoil: their sandboxes, the boot, modules of others.
//! Logins themselves are the business of `login/`.

mod boot;
mod failed;
mod others;
mod restarts;
mod rights;
