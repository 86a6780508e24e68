//! Connections whose peer has hung up and which have not had the turn yet in which they would notice it.
//! They are found all together, in one system call; nobody is closed.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connections::Connection;

/// Those that nobody hears any more and that can give way, but those that have something to read: it may ask for something to be
/// done which needs no answer.
pub(super) fn deserted(open: &HashMap<u64, Rc<Connection>>) -> Vec<u64> {
    let looked_at: Vec<_> = open.iter().filter(|(_, c)| c.gives_way()).collect();
    let mut ends: Vec<PollFd<'_>> = looked_at
        .iter()
        .map(|(_, c)| PollFd::new(c.socket.descriptor().as_fd(), PollFlags::empty()))
        .collect();
    if poll(&mut ends, PollTimeout::ZERO).is_err() {
        return Vec::new();
    }
    let has_ended = |end: &PollFd<'_>| end.any().unwrap_or(true);
    looked_at
        .iter()
        .zip(&ends)
        .filter(|((_, c), end)| has_ended(end) && !c.is_unread())
        .map(|((id, _), _)| **id)
        .collect()
}
