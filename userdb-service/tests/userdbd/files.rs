//! Files that come along with bytes (`SCM_RIGHTS`): what it takes to drop them is nobody's time.

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::json;
use userdb_service::runtime::transport::Limits;

use crate::echo::{Echo, echo, start, while_held};
use crate::wire::{Client, Server};

/// Who drops it last waits for a minute, unless its other end goes before.
struct Lingering {
    other_end: TcpStream,
    file: TcpStream,
}

impl Lingering {
    fn new() -> Lingering {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut file = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other_end, _) = listener.accept().unwrap();
        file.set_nonblocking(true).unwrap();
        while file.write(&[0; 1 << 16]).is_ok() {}
        set_socket_linger(&file, Some(Duration::from_secs(60))).unwrap();
        Lingering { other_end, file }
    }

    /// Sends it over the connection of `client`, and leaves it to the server. Gives the other end, which is to be kept.
    fn leave_to(self, client: &Client, bytes: &[u8]) -> Result<TcpStream, Errno> {
        let Lingering { other_end, file } = self;
        let files: [BorrowedFd<'_>; 1] = [file.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        assert!(along.push(SendAncillaryMessage::ScmRights(&files)));
        let bytes = [IoSlice::new(bytes)];
        match sendmsg(&client.stream, &bytes, &mut along, SendFlags::NOSIGNAL) {
            Ok(_) => {
                drop(file);
                Ok(other_end)
            }
            Err(error) => {
                drop(other_end);
                Err(error)
            }
        }
    }
}

/// From here on, in this thread and those it starts, there is no `SO_PASSRIGHTS`, as before Linux 6.16.
fn as_on_an_older_kernel() {
    const SO_PASSRIGHTS: u32 = 83;
    /// Offsets into `struct seccomp_data`: the number of the call, and the low half of its third argument.
    const NUMBER: u32 = 0;
    const THIRD: u32 = if cfg!(target_endian = "little") {
        32
    } else {
        36
    };
    let statement = |code: u32, k: u32, jf: u8| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: 0,
        jf,
        k,
    };
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0);
    let unless = |value, skip| statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, skip);
    let leave = |verdict| statement(libc::BPF_RET | libc::BPF_K, verdict, 0);
    let no_such_option = libc::SECCOMP_RET_ERRNO | libc::ENOPROTOOPT.unsigned_abs();
    let mut filter = [
        load(NUMBER),
        unless(u32::try_from(libc::SYS_setsockopt).unwrap(), 3),
        load(THIRD),
        unless(SO_PASSRIGHTS, 1),
        leave(no_such_option),
        leave(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap(),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: both calls take numbers and, the second, a program that lives and is not changed during it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    };
    assert!(done, "{}", std::io::Error::last_os_error());
}

/// Neither the others nor the end of the server wait.
fn must_serve_and_stop(mut server: Server) {
    let begin = Instant::now();
    echo(&mut server.connect(), "meanwhile");
    server.wish_to_stop();
    server.stopped();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Linux 6.16 and newer.
fn can_be_refused() -> bool {
    let release = nix::sys::utsname::uname().unwrap();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(16))
}

#[test]
fn a_file_that_comes_along_is_refused_or_holds_up_nobody() {
    let server = start();
    echo(&mut server.connect(), "all are in who came before");
    let client = server.connect();
    let other_end = while_held(&server, || Lingering::new().leave_to(&client, b"{"));
    must_serve_and_stop(server);
    match other_end {
        Ok(_) => assert!(!can_be_refused()),
        Err(error) => assert_eq!(error, Errno::PERM),
    }
}

#[test]
fn a_file_that_came_before_the_server_holds_it_up_no_more() {
    let (go, wait) = mpsc::channel::<()>();
    let server = Server::start(Limits::default(), move || {
        let _ = wait.recv();
        Echo
    });
    let client = server.connect();
    let other_end = Lingering::new().leave_to(&client, b"{").unwrap();
    drop(go);
    must_serve_and_stop(server);
    drop(other_end);
}

#[test]
fn on_an_older_kernel_who_sends_a_file_is_hung_up_on() {
    as_on_an_older_kernel();
    let server = start();
    let call = json!({"method": "org.example.Echo.Echo", "parameters": {"text": "t"}});
    let call = format!("{call}\0");
    // Before and in the middle of a message, and after one that is answered.
    for begin in ["", "{\"method\":", &call] {
        let mut client = server.connect();
        client.send_raw(begin.as_bytes());
        if begin.ends_with('\0') {
            assert!(client.receive().is_some());
        }
        let other_end = while_held(&server, || Lingering::new().leave_to(&client, b" \0"));
        let began = Instant::now();
        // Cut off, with what it has sent unread.
        let _ = client.stream.read_to_end(&mut Vec::new());
        assert!(began.elapsed() < Duration::from_secs(10));
        drop(other_end.unwrap());
    }
    must_serve_and_stop(server);
}

#[test]
fn on_an_older_kernel_what_was_never_read_holds_nobody_up_either() {
    as_on_an_older_kernel();
    let server = start();
    let mut client = server.connect();
    client.send(&json!({"method": "org.example.Echo.Wait"}));
    // Read by then, mostly, and nothing is read behind it until it is answered.
    std::thread::sleep(Duration::from_millis(100));
    let leave = || Lingering::new().leave_to(&client, b"{").unwrap();
    let other_ends = [leave(), leave()];
    must_serve_and_stop(server);
    drop(other_ends);
}

#[test]
fn on_an_older_kernel_messages_of_all_sizes_are_read_as_ever() {
    as_on_an_older_kernel();
    let server = start();
    let mut client = server.connect();
    for size in [0, 1, 900, 1024, 5000, 60_000] {
        echo(&mut client, &"x".repeat(size));
    }
    let message = r#"{"method":"org.example.Echo.Echo","parameters":{"text":"slow"}}"#;
    for byte in format!("{message}\0").bytes() {
        client.send_raw(&[byte]);
    }
    let answer = json!({"parameters": {"text": "slow"}});
    assert_eq!(client.receive(), Some(answer));
}
