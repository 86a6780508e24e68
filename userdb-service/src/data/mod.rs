//! The data plane: `io.systemd.UserDatabase` from the published table alone.
