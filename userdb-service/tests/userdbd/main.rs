//! What clients see of our varlink servers, asked over real sockets.

mod daemon;
mod descriptors;
mod provider;
mod transport;
mod wire;
