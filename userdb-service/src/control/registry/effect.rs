//! What a transition asks of the daemon, in the order in which it has to be done.
//!
//! Data only: what each effect takes is of `effects.rs` beside the registry.

use super::session::SessionId;
use crate::policy::{Gid, Login, SudoersSpec, Uid};

/// What the daemon has to do, in this order, for a transition to be true outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write the session down for a restart.
    RememberSession(SessionId),
    /// Remove what was written down of the session.
    ForgetSession(SessionId),
    /// Write the login's standing down for a restart.
    RememberLogin(Login),
    /// The same, but nobody waits for it: what it adds to what is written down follows from the login's sessions, as they are
    /// written down.
    RememberLoginSoon(Login),
    /// Remove what was written down of the login.
    ForgetLogin(Login),
    /// Make the login's sudoers file say this; nothing: remove it. Done before the next effect that shows, and at the latest
    /// when all are.
    Sudoers(Login, Vec<SudoersSpec>),
    /// What the login's sudoers file is to say was ordered before. Where somebody still waits for that, it is waited for as well.
    AwaitSudoers(Login),
    /// Publish the login with what its sessions grant together: [`Registry::published`].
    Publish(Login),
    /// Withdraw name, aliases, IDs and memberships of the login.
    Withdraw(Login),
    /// Leave what is published of the login as it is, but locked and without memberships.
    Lock(Login),
    /// The login lingers: report when no process of the UID is left.
    AwaitProcesses(Login, Uid),
    /// Report the exit of the session's leader.
    Watch(SessionId),
    /// No longer.
    Unwatch(SessionId),
    /// End processes and other remains of the UID, then report that they have ended.
    EndRemains(Login, Uid),
    /// Write down that the UID may go to no other name before the next boot.
    RememberUid(Uid, String),
    /// Nor may the GID of this group, or of this login's private group.
    RememberGid(Gid, String),
}
