//! Tests of the module as it is shipped: built with its own profile, loaded by the real glibc, in private worlds.

mod artefact;
mod buffers;
mod direct;
mod hostile;
mod hosts;
mod listing;
mod namespaces;
mod rig;
mod sessions;
mod through_glibc;
