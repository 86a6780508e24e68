//! The child of a Teleport node, as far as libpam and the login user are concerned: a program for containers.
//! What comes of a login is told on standard error, one JSON object a line; judging it is for the tests.

mod fuse;
mod old_kernel;
mod pam;
mod registry;
mod relay;
mod session;
mod storm;
mod tell;
mod terminal;
mod user;
mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Makes the PAM calls of a Teleport child in its order: setenv and pam_putenv, account, (authenticate,) open, close, end.
#[derive(Parser)]
#[command(
    after_help = "Exit status: that of the command; 251 account, 252 authentication or 253 session refused, \
                        254 the user is unknown after PAM, 255 anything else."
)]
struct Arguments {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// A session channel: runs a command as the user, waits for it, closes as root.
    Exec(Login),
    /// The forwarding child: becomes the user in the same process, closes and ends as that user.
    Networking(Login),
    /// Many logins at once, each a process, each looking itself up after account, open and close.
    Storm(Storm),
    /// Looks users up by NSS and by userdb again and again, and counts when one is not found.
    Watch(Watch),
    /// Calls a method of the registry (or of another varlink service) and prints the answer.
    Call(Call),
    /// Passes bytes on between standard input and output and a unix socket.
    Relay(Relay),
    /// Connects many times, as many users, and stays.
    Crowd(Crowd),
    /// Mounts a FUSE file system that never answers, as that of a user, and stays.
    Hang {
        /// Where.
        #[arg(long)]
        on: PathBuf,
        /// Whose.
        #[arg(long)]
        uid: u32,
        /// Nobody else may look at it: what fusermount does unless /etc/fuse.conf allows otherwise.
        #[arg(long)]
        closed: bool,
    },
    /// Runs a program that will find no SO_PEERPIDFD, as on kernels before 6.5.
    OldKernel {
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
}

/// One login.
#[derive(Args, Clone)]
struct Login {
    /// The UNIX login.
    #[arg(long)]
    login: String,
    /// The person in Teleport.
    #[arg(long, default_value = "alice")]
    user: String,
    /// Roles, joined by spaces.
    #[arg(long, default_value = "dev")]
    roles: String,
    /// The PAM service.
    #[arg(long, default_value = "teleport")]
    service: String,
    /// One more NAME=value of the environment.
    #[arg(long)]
    env: Vec<String>,
    /// No pam_putenv: the variables are in the environment of the process only.
    #[arg(long)]
    process_env_only: bool,
    /// libpam gets login and variables in ISO 8859-1.
    #[arg(long)]
    latin1: bool,
    /// Calls pam_authenticate between account and open, as `use_pam_auth` does.
    #[arg(long)]
    auth: bool,
    /// PAM handles of this process, opened one after the other, closed in the same order.
    #[arg(long, default_value_t = 1)]
    handles: usize,
    /// Makes every call there is, authentication, credentials and password included, whatever the codes say. Runs nothing.
    #[arg(long)]
    regardless: bool,
    /// Ends without closing, as when a later module has failed.
    #[arg(long)]
    end_only: bool,
    /// Looks the user up after account, open and close, and tells what was found.
    #[arg(long)]
    look: bool,
    /// Stops at a point until a line (or the end) of standard input: start, account, authenticate, open, command,
    /// became, close.
    #[arg(long)]
    hold: Vec<String>,
    /// A terminal of this size for the command, COLUMNSxROWS: allocated by the parent, passed on, not in PAM_TTY.
    #[arg(long)]
    pty: Option<terminal::Size>,
    /// The descriptor of the terminal, from the parent.
    #[arg(long, hide = true)]
    terminal_fd: Option<i32>,
    /// What the user runs.
    #[arg(last = true)]
    command: Option<String>,
}

/// A round is: so many logins at once, each from a process of its own.
#[derive(Args)]
struct Storm {
    /// Logins per round.
    #[arg(long, default_value_t = 64)]
    logins: usize,
    /// Rounds, with the same logins each.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// The PAM service.
    #[arg(long, default_value = "sshd")]
    service: String,
    /// What the logins begin with.
    #[arg(long, default_value = "storm")]
    prefix: String,
    /// Instead of a number of rounds: until this file is there.
    #[arg(long)]
    until: Option<PathBuf>,
    /// Judges who comes in, not who is gone when close returns: it does not wait for that longer than a second.
    #[arg(long)]
    only_in: bool,
}

/// Lookups of users who are there all the time.
#[derive(Args)]
struct Watch {
    /// Goes on until this file is there.
    #[arg(long)]
    until: PathBuf,
    /// The logins.
    #[arg(required = true)]
    logins: Vec<String>,
}

/// One call, answered once.
#[derive(Args)]
struct Call {
    /// Where the service listens.
    #[arg(long, default_value = "/run/teleport-userdb/sessions")]
    socket: PathBuf,
    /// Calls from a child, after the process that has connected has ended.
    #[arg(long)]
    orphaned: bool,
    /// The whole name.
    method: String,
    /// A JSON object.
    #[arg(default_value = "{}")]
    parameters: String,
}

/// Bytes as they come.
#[derive(Args)]
struct Relay {
    /// Where the service listens.
    socket: PathBuf,
}

/// Connections that only take up room.
#[derive(Args)]
struct Crowd {
    /// How many.
    #[arg(long)]
    connections: u32,
    /// Of how many users.
    #[arg(long, default_value_t = 1)]
    uids: u32,
    /// UID of the first of them.
    #[arg(long, default_value_t = 200_000)]
    first_uid: u32,
    /// The message that each sends first, and reads no answer to.
    #[arg(long)]
    say: Option<String>,
    /// Sends it without its end.
    #[arg(long)]
    half: bool,
    /// Where the service listens.
    socket: PathBuf,
}

fn main() {
    let status = match Arguments::parse().kind {
        Kind::Exec(Login {
            pty: Some(size), ..
        }) => terminal::run(size)
            .unwrap_or_else(|error| session::broken(&format!("no terminal: {error}"))),
        Kind::Exec(login) => session::run(&login, false),
        Kind::Networking(login) => session::run(&login, true),
        Kind::Storm(storm) => storm::run(&storm),
        Kind::Watch(watch) => watch::run(&watch),
        Kind::Call(call) => registry::call(&call),
        Kind::Relay(socket) => relay::relay(&socket),
        Kind::Crowd(connections) => relay::crowd(&connections),
        Kind::Hang { on, uid, closed } => match fuse::hang(&on, uid, closed) {
            Ok(()) => 0,
            Err(error) => session::broken(&format!("mounting on {}: {error}", on.display())),
        },
        Kind::OldKernel { program } => {
            eprintln!("{}", old_kernel::exec(&program));
            255
        }
    };
    std::process::exit(status);
}
