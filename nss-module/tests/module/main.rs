//! Tests of the module as it is shipped: built with its own profile, loaded by the real glibc, in private worlds.

mod artefact;
mod direct;
mod rig;
mod through_glibc;
