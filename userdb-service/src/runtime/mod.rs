//! What both daemons share with systemd: sockets, journal, readiness, varlink transport.
