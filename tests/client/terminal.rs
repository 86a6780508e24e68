//! The terminal of a session as Teleport's node makes it: allocated by the parent, which copies what appears on
//! it, and handed to the child as an open descriptor. Whom it belongs to is not decided here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{Winsize, openpty};
use nix::unistd::dup;

/// Columns and rows, `COLUMNSxROWS`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(u16, u16);

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = text
            .split_once('x')
            .and_then(|(columns, rows)| Some(Size(columns.parse().ok()?, rows.parse().ok()?)));
        sizes.ok_or_else(|| "write COLUMNSxROWS, such as 80x24".to_owned())
    }
}

/// Runs this program once more, with the same arguments and the new terminal as a descriptor, as `--terminal-fd`
/// says. Gives its status when it has ended, however long others hold the terminal.
pub(crate) fn run(size: Size) -> io::Result<i32> {
    let window = Winsize {
        ws_col: size.0,
        ws_row: size.1,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&window, None)?;
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let arguments = std::env::args_os().skip(1);
    let mut child = Command::new("/proc/self/exe")
        .args(with_terminal(arguments.collect(), pty.slave.as_raw_fd()))
        .spawn()?;
    drop(pty.slave);
    copy(pty.master, &mut child)
}

/// `exec --pty=80x24 ...` becomes `exec --terminal-fd=N ...`: what follows a `--` is not ours.
fn with_terminal(arguments: Vec<std::ffi::OsString>, terminal: i32) -> Vec<std::ffi::OsString> {
    let mut ours = true;
    let replaced = arguments.into_iter().map(|argument| {
        ours &= argument != "--";
        if ours && argument.to_string_lossy().starts_with("--pty=") {
            format!("--terminal-fd={terminal}").into()
        } else {
            argument
        }
    });
    replaced.collect()
}

fn copy(master: OwnedFd, child: &mut Child) -> io::Result<i32> {
    let mut master = File::from(master);
    let mut stdout = io::stdout();
    let mut ended = None;
    loop {
        let mut ready = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, 20_u8)?;
        let readable = ready[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLIN));
        if readable {
            let mut bytes = [0; 4096];
            // An error is the end of the last process that had the terminal.
            if let Ok(count) = master.read(&mut bytes) {
                stdout.write_all(&bytes[..count])?;
                stdout.flush()?;
            }
            continue;
        }
        if let Some(status) = ended {
            return Ok(status);
        }
        // What was written before the end is read in one more round.
        ended = child
            .try_wait()?
            .and_then(|status| status.code().or(status.signal().map(|signal| 128 + signal)));
    }
}

/// Makes the descriptor `number` the command's three streams and controlling terminal.
pub(crate) fn attach(command: &mut Command, number: i32) -> io::Result<()> {
    // SAFETY: the parent has put the terminal there and nothing in this process closes it.
    let terminal = unsafe { BorrowedFd::borrow_raw(number) };
    let stream = || dup(terminal).map(Stdio::from);
    command.stdin(stream()?).stdout(stream()?).stderr(stream()?);
    let controlling = || {
        // SAFETY: a request without a pointer, on the command's own standard input.
        match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec only ioctl is called, and nothing allocates.
    unsafe { command.pre_exec(controlling) };
    Ok(())
}
