//! Runs a program as on a kernel before 6.5, which does not know SO_PEERPIDFD: a filter answers as that kernel does.
//! Everything else of the system stays as it is.

use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};

/// Offsets into `struct seccomp_data`: the number of the call, and the low halves of its second and third argument.
const NUMBER: u32 = 0;
const ARGUMENT: [u32; 2] = if cfg!(target_endian = "little") {
    [24, 32]
} else {
    [28, 36]
};

/// Becomes `program`. Comes back only with the reason why it could not.
pub(crate) fn exec(program: &[String]) -> String {
    let Some((file, arguments)) = program.split_first() else {
        return "no program to run".to_owned();
    };
    if let Err(error) = hide_peer_pidfd() {
        return format!("installing the filter: {error}");
    }
    match UnixStream::pair().map(|(ours, _theirs)| getsockopt(&ours, PeerPidfd)) {
        Ok(Err(Errno::ENOPROTOOPT)) => {}
        other => return format!("the filter does not work: {other:?}"),
    }
    let error = Command::new(file).args(arguments).exec();
    format!("{file}: {error}")
}

/// From here on, in this program and what it becomes, `getsockopt(SOL_SOCKET, SO_PEERPIDFD)` is ENOPROTOOPT.
fn hide_peer_pidfd() -> io::Result<()> {
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let unless = |value, skip| libc::sock_filter {
        jf: skip,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
    };
    let leave = |verdict| statement(libc::BPF_RET | libc::BPF_K, verdict);
    let constant = |value: libc::c_int| value.unsigned_abs();
    let getsockopt = u32::try_from(libc::SYS_getsockopt).map_err(io::Error::other)?;
    let mut filter = [
        load(NUMBER),
        unless(getsockopt, 5),
        load(ARGUMENT[0]),
        unless(constant(libc::SOL_SOCKET), 3),
        load(ARGUMENT[1]),
        unless(constant(libc::SO_PEERPIDFD), 1),
        leave(libc::SECCOMP_RET_ERRNO | constant(libc::ENOPROTOOPT)),
        leave(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: both calls take numbers and, the second, a program that lives and is not changed during it.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    };
    if installed {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        // The codes are small constants of the kernel's header.
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}
