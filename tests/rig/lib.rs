//! The rig: boots Debian with systemd as PID 1 and runs things inside.
