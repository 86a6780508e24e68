//! A login on a real machine, told as a story: every command is run, every line is its real output.
//! The exit status is 1 if anything is not as the story says; what has no place in the story is a test.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rig::{Etc, Login, Machine, Ran, Result, Suite, boot_node};

const LOGIN: &str = "maria";

fn main() -> ExitCode {
    match tell() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            println!("\n{wrong} of the above is not as it should be.");
            ExitCode::FAILURE
        }
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the story and gives the number of things that were not as told.
fn tell() -> Result<u32> {
    let began = Instant::now();
    heading("A node");
    say("Debian 13 boots in a container, with systemd as PID 1, and the package is installed.");
    let node = boot_node(Suite::Trixie)?;
    let mut story = Story {
        node: &node,
        wrong: 0,
    };
    story.shows("systemctl --version | head -n 1", |ran| ran.succeeded());
    story.shows("grep -E '^(passwd|group):' /etc/nsswitch.conf", |ran| {
        ran.stdout.matches("files teleport systemd").count() == 2
    });
    say("Nobody is called maria here.");
    story.shows("getent passwd maria", |ran| ran.status == 2);
    let etc = Etc::of(&node);

    heading("Maria logs in");
    say(
        "Teleport knows her as maria@example.com with the roles dev and ops. It makes its PAM calls and runs her shell:",
    );
    let mut session = story.log_in("id");
    story.is_seen();

    heading("Nothing was written for her");
    story.shows("grep -c maria /etc/passwd /etc/shadow /etc/group", |ran| {
        !ran.stdout.contains(":1")
    });
    story.etc_is_untouched(&etc);

    heading("She logs out");
    let ended = session.end();
    story.holds(ended, "her session ended with the status of her command");
    story.is_gone();

    heading("She comes back, and her connection dies");
    say("Teleport's process is killed with SIGKILL. Nobody is left to close the session.");
    session = story.log_in("sleep 60");
    story.shows("getent passwd maria", |ran| ran.succeeded());
    let killed = Instant::now();
    node.run(&["kill", "-KILL", &session.pid]).must();
    let gone = || node.run(&["getent", "passwd", LOGIN]).status == 2;
    while !gone() && killed.elapsed() < Duration::from_secs(5) {}
    say(&format!(
        "Looking for her again and again: gone {} ms later.",
        killed.elapsed().as_millis()
    ));
    story.holds(
        killed.elapsed() < Duration::from_secs(1),
        "a killed session is gone within a second",
    );
    story.is_gone();
    drop(session);

    heading("Somebody asks for a login that is taken");
    say("A Teleport role lets bob log in as \"sudo\", which is a group of this machine:");
    let refused = node.login("sudo").user("bob@example.com").run();
    output(&refused.ran.stdout);
    story.holds(
        refused.code("account") == Some("PERM_DENIED"),
        "the name of a group is no login",
    );

    heading("The end");
    story.etc_is_untouched(&etc);
    say(&format!(
        "All of this took {:.0} seconds.",
        began.elapsed().as_secs_f64()
    ));
    Ok(story.wrong)
}

struct Story<'m> {
    node: &'m Machine,
    wrong: u32,
}

/// Maria's session, with her command running.
struct Session {
    login: Login,
    pid: String,
}

impl Session {
    /// Whether the caller got the status of her command.
    fn end(self) -> bool {
        self.login.finish().ran.succeeded()
    }
}

impl Story<'_> {
    /// Runs a line of shell on the node and shows it with its output.
    fn shows(&mut self, line: &str, as_told: impl Fn(&Ran) -> bool) {
        let ran = self.node.sh(line);
        println!("\n    $ {line}");
        output(&(ran.stdout.clone() + &ran.stderr));
        if ran.stdout.is_empty() && ran.stderr.is_empty() {
            println!("    (nothing, status {})", ran.status);
        }
        self.holds(as_told(&ran), "the output is as the story says");
    }

    fn holds(&mut self, holds: bool, what: &str) {
        if !holds {
            self.wrong += 1;
            println!("    ^^^ NOT SO: {what}");
        }
    }

    fn log_in(&mut self, command: &str) -> Session {
        let login = self
            .node
            .login(LOGIN)
            .user("maria@example.com")
            .roles("dev ops");
        println!("\n    tsh ssh {LOGIN}@node {command}");
        let mut login = login.command(command).hold("command").start();
        let pid = login.reach("command").pid();
        Session { login, pid }
    }

    fn is_seen(&mut self) {
        say("The machine knows her, as if she had always been there:");
        self.shows("getent passwd maria", |ran| {
            ran.stdout
                .contains("User maria@example.com with roles dev ops created by Teleport.")
        });
        self.shows("id maria", |ran| ran.stdout.contains("teleport-tmp"));
        self.shows("userdbctl user maria", |ran| {
            ran.stdout.contains("com.goteleport.DynamicUser")
        });
        self.shows("loginctl list-sessions", |ran| ran.stdout.contains("maria"));
    }

    fn is_gone(&mut self) {
        self.shows("getent passwd maria", |ran| ran.status == 2);
        self.shows("userdbctl user maria", |ran| !ran.succeeded());
    }

    fn etc_is_untouched(&mut self, before: &Etc) {
        let changes = before.changes(&Etc::of(self.node));
        if changes.is_empty() {
            say("Every file of /etc is bit-identical to what it was before she came.");
        }
        self.holds(changes.is_empty(), &changes.join("; "));
    }
}

fn heading(text: &str) {
    println!("\n{text}\n{}", "-".repeat(text.len()));
}

fn say(text: &str) {
    println!("{text}");
}

fn output(text: &str) {
    for line in text.trim_end().lines() {
        println!("    {line}");
    }
}
