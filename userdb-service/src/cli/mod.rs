//! `teleport-userdbctl`: how administrators see what goes on. It changes nothing.
//!
//! A file per subcommand. [`node`] looks at the machine (with `asked`, [`by_file`], `compare`, [`held`], [`hints`], `homes`, `libraries`, `pam`, `reach`, [`sandbox`], [`units`], [`unread`], `userdb` and `written`), [`findings`] judges what was seen, [`output`]
//! and [`table`] turn data into text; only this file knows the whole command line.

mod asked;
pub mod by_file;
pub mod check;
mod compare;
pub mod explain;
pub mod findings;
pub mod held;
mod here;
pub mod hints;
pub mod homes;
mod libraries;
pub mod list;
pub mod node;
pub mod output;
mod pam;
mod reach;
mod room;
pub mod sandbox;
pub mod sessions;
pub mod status;
mod sudo_findings;
pub mod table;
mod unit_findings;
mod unit_word;
pub mod units;
pub mod unread;
mod userdb;
pub mod written;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::explain::ExplainArgs;
use self::output::{Json, Output, plain};

/// Everything is as it should be.
pub const GOOD: u8 = 0;
/// Something is wrong, or the login is refused.
pub const WRONG: u8 = 1;
/// The command line makes no sense, or what it asks for cannot be found out.
pub const WRONG_USE: u8 = 2;

/// The arguments of `teleport-userdbctl`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "teleport-userdbctl",
    version,
    about = "Shows and explains the users that teleport-userdb makes for Teleport logins",
    color = clap::ColorChoice::Never,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON for programs; without a mode, on one line
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "MODE",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = Json::Off,
        default_missing_value = "short"
    )]
    json: Json,
    /// Leave out header and footer of tables
    #[arg(long, global = true)]
    no_legend: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Show whether the daemons are there and what they keep
    Status,
    /// List the users that exist now; anybody may, and no daemon has to run
    List,
    /// List reserved and open sessions with the processes that hold them; for root
    Sessions,
    /// Check whether this node is set up right
    Check,
    /// Say what would become of a login, and why; for root
    Explain(ExplainArgs),
}

/// The command line's definition, to hold help and manual page against.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Runs what the process's arguments ask for.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let output = Output {
        json: cli.json,
        legend: !cli.no_legend,
    };
    let result = match &cli.command {
        Command::Status => Ok(status::run(output)),
        Command::List => list::run(output),
        Command::Sessions => sessions::run(output),
        Command::Check => Ok(check::run(output)),
        Command::Explain(args) => here::explain(args, output.json),
    };
    match result {
        Ok((text, status)) => match io::stdout().lock().write_all(text.as_bytes()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                fail(&format!("cannot write: {error}"), WRONG)
            }
            _ => ExitCode::from(status),
        },
        Err(Failure { status, message }) => fail(&message, status),
    }
}

/// Why a command has nothing to show: a sentence, and the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit status.
    pub status: u8,
    /// What was wrong and what would be right.
    pub message: String,
}

/// Help and version, or what is wrong with the arguments. Those are anybody's text.
fn misused(error: &clap::Error) -> ExitCode {
    let text = plain(&error.render().to_string());
    let status = u8::try_from(error.exit_code()).unwrap_or(WRONG_USE);
    // With nowhere to write to, the status still tells.
    let _ = if error.use_stderr() {
        io::stderr().lock().write_all(text.as_bytes())
    } else {
        io::stdout().lock().write_all(text.as_bytes())
    };
    ExitCode::from(status)
}

fn fail(message: &str, status: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "teleport-userdbctl: {}", plain(message));
    ExitCode::from(status)
}
