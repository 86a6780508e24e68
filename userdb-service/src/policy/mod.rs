//! Who is made, under which name, UID, groups and rights: pure functions, no I/O.
