//! glibc name service switch module.
