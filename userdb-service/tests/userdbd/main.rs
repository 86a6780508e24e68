//! What clients see of our varlink servers, asked over real sockets.

mod crowds;
mod daemon;
mod descriptors;
mod echo;
mod files;
mod framing;
mod held;
mod host;
mod limits;
mod lists;
mod lookups;
mod records;
mod wire;
