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
    say("Debian boots in a container, with systemd as PID 1, and the package is installed.");
    println!("(The first time, Debian itself has to be fetched: half a minute.)");
    let node = boot_node(Suite::chosen()?)?;
    let mut story = Story {
        node: &node,
        etc: Etc::of(&node),
        wrong: 0,
    };
    story.before();
    story.a_login();
    story.a_lost_connection();
    story.a_refusal();

    heading("The end");
    story.etc_is_untouched();
    let seconds = began.elapsed().as_secs_f64();
    say(&format!("All of this took {seconds:.0} seconds."));
    Ok(story.wrong)
}

struct Story<'m> {
    node: &'m Machine,
    etc: Etc,
    wrong: u32,
}

/// Maria's session, with her command running.
struct Session {
    login: Login,
    pid: String,
}

impl Story<'_> {
    fn before(&mut self) {
        self.shows("systemctl --version | head -n 1", Ran::succeeded);
        self.shows("grep -E '^(passwd|group):' /etc/nsswitch.conf", |ran| {
            ran.stdout.matches("files teleport systemd").count() == 2
        });
        self.shows("teleport-userdbctl check", |ran| {
            ran.succeeded() && ran.stdout.contains("Nothing is wrong.")
        });
        say("Nobody is called maria here.");
        self.shows("getent passwd maria", |ran| ran.status == 2);
    }

    fn a_login(&mut self) {
        heading("Maria logs in");
        say(
            "Teleport knows her as maria@example.com, with the roles dev and ops. For `tsh ssh maria@node id`",
        );
        println!(
            "it calls pam_acct_mgmt and pam_open_session, and runs her command. She is known now:"
        );
        let mut session = self.log_in("id");
        self.shows("getent passwd maria", |ran| {
            ran.stdout
                .contains(":User maria@example.com with roles dev ops created by Teleport.:")
        });
        self.shows("id maria", |ran| ran.stdout.contains("(teleport-tmp)"));
        self.shows("userdbctl user maria", |ran| {
            ran.stdout.contains("Service: com.goteleport.DynamicUser")
        });
        self.shows("loginctl list-sessions", |ran| ran.stdout.contains("maria"));
        say("Who holds her here, and until which process ends:");
        self.shows("teleport-userdbctl sessions", |ran| {
            ran.stdout.contains(&session.pid) && ran.stdout.contains("maria@example.com")
        });

        say("And yet nothing was written for her:");
        self.shows("grep -c maria /etc/passwd /etc/shadow /etc/group", |ran| {
            ran.stdout.matches(":0").count() == 3
        });
        self.etc_is_untouched();

        heading("She logs out");
        session.login.go_on().reach("close");
        say("pam_close_session has just returned to Teleport, and nobody knows her any more:");
        self.is_gone();
        self.shows("teleport-userdbctl list", |ran| ran.stdout == "No users.\n");
        let ended = session.login.finish();
        say("What her command wrote meanwhile:");
        println!();
        output(&ended.written());
        self.holds(
            ended.written().contains("(maria)"),
            "her command ran as her",
        );
        self.holds(ended.ran.succeeded(), "its exit status reached the caller");
    }

    fn a_lost_connection(&mut self) {
        heading("She comes back, and Teleport is killed");
        let session = self.log_in("sleep 60");
        self.shows("getent passwd maria", Ran::succeeded);
        say("SIGKILL: nobody is left to close her session.");
        self.node.run(&["kill", "-KILL", &session.pid]).must();
        let killed = Instant::now();
        let gone = || self.node.run(&["getent", "passwd", LOGIN]).status == 2;
        while !gone() && killed.elapsed() < Duration::from_secs(5) {}
        let took = killed.elapsed();
        say(&format!(
            "Asking again and again, she is gone {} ms later.",
            took.as_millis()
        ));
        self.holds(
            took < Duration::from_secs(1),
            "a killed session is gone within a second",
        );
        self.is_gone();
    }

    fn a_refusal(&mut self) {
        heading("Somebody asks for a login that is taken");
        say(
            "Teleport would let bob@example.com log in as \"sudo\", but that is a group of this machine:",
        );
        println!();
        let refused = self.node.login("sudo").user("bob@example.com").run();
        output(&refused.ran.stdout);
        self.holds(
            refused.code("account") == Some("PERM_DENIED"),
            "a group's name is no login",
        );
        self.shows("getent passwd sudo", |ran| ran.status == 2);
        say("An administrator can ask beforehand, and hears the same sentence:");
        self.shows(
            "teleport-userdbctl explain --user bob@example.com --login sudo --roles dev",
            |ran| {
                let same = |sentence: &&str| ran.stdout.contains(*sentence);
                ran.status == 1 && refused.messages().iter().any(same)
            },
        );
    }

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
        let mut login = login.command(command).hold("command").hold("close").start();
        let pid = login.reach("command").pid();
        Session { login, pid }
    }

    fn is_gone(&mut self) {
        self.shows("getent passwd maria", |ran| ran.status == 2);
        self.shows("userdbctl user maria", |ran| !ran.succeeded());
    }

    fn etc_is_untouched(&mut self) {
        let changes = self.etc.changes(&Etc::of(self.node));
        if changes.is_empty() {
            say("Every file of /etc is bit-identical to what it was before she came.");
        }
        self.holds(changes.is_empty(), &changes.join("; "));
    }
}

fn heading(text: &str) {
    println!("\n\n{text}\n{}", "-".repeat(text.len()));
}

fn say(text: &str) {
    println!("\n{text}");
}

fn output(text: &str) {
    for line in text.trim_end().lines() {
        println!("    {line}");
    }
}
