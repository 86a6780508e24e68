//! What clients see of our varlink servers, asked over real sockets.

mod descriptors;
mod transport;
mod wire;
