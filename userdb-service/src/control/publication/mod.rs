//! How the users of live sessions come before everybody's eyes: into the table that is published, past nscd's
//! cache, and to clients of userdb that ask only a service which is marked for it.

pub(super) mod nscd;
pub(super) mod publish;
pub(super) mod socket_mark;
