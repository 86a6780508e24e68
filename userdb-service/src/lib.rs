//! The library behind `teleport-sessiond`, `teleport-userdbd` and `teleport-userdbctl`.
//!
//! One folder per subject: the [`policy`] decides and does no I/O, the [`control`] plane owns
//! sessions and carries decisions out, the [`data`] plane answers userdb queries from the published
//! table alone, [`runtime`] is what both daemons share with systemd, [`cli`] is the command line.

pub mod cli;
pub mod control;
pub mod data;
pub mod policy;
pub mod runtime;

/// Our name among the providers of systemd's user database: of the socket, in each record, and for those who are not to ask us.
pub const USERDB_SERVICE: &str = "com.goteleport.DynamicUser";
/// The socket of `teleport-userdbd.socket`, where systemd asks us.
pub const USERDB_SOCKET: &str = "/run/systemd/userdb/com.goteleport.DynamicUser";

// What all of them mean by text fit to be shown: the same as pam_teleport.
use session_protocol::invisible;
