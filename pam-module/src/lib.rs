//! PAM module that registers a login session.
