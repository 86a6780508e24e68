//! Whether a user is one of this host's own, asked without the daemon.
//! The registry decides this itself while it answers; here is only what is left when it does not.

use crate::pam::user_exists;

/// True if the user exists and is not published by us. In doubt it is not.
pub(crate) fn known_to_others(login: &str) -> bool {
    user_exists(login)
}
