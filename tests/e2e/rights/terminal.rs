//! The terminal of a session, which Teleport's parent process has allocated before there was a user to give it to;
//! and that nothing on the way harms what the session's command does.

use std::sync::Mutex;

use rig::Ended;

use crate::node;

/// Lines as they were on the terminal, without what PAM told the person.
fn lines(ended: &Ended) -> Vec<String> {
    let written = ended.written().replace('\r', "");
    written.lines().map(str::to_owned).collect()
}

#[test]
fn the_terminal_belongs_to_the_user_once_open_session_has_returned() {
    let node = node();
    let mut login = node
        .login("tora")
        .option("--pty", "80x24")
        .hold("account")
        .hold("open")
        .command("stat -c '%U %G %a' $(tty); echo written >$(tty); ps -o tty= -p $$")
        .start();
    let pid = login.reach("account").pid();
    let owners = format!(
        "for fd in /proc/{pid}/fd/*; do case $(readlink $fd) in /dev/pts/*) stat -L -c '%U %G %a' $fd;; esac; done"
    );
    assert_eq!(node.sh(&owners).must(), "root tty 620");
    login.go_on().reach("open");
    assert_eq!(node.sh(&owners).must(), "tora tty 620");
    let ended = login.finish();
    ended.ran.must();
    let lines = lines(&ended);
    assert_eq!(lines[..2], ["tora tty 620", "written"], "{ended:?}");
    assert!(lines[2].starts_with("pts/"), "{ended:?}");
}

#[test]
fn root_testing_the_stack_from_a_shell_keeps_its_own_terminal() {
    let node = node();
    let child = "/usr/local/bin/teleport-child exec --login=tilda";
    for (variant, looks) in [
        ("", "id -un"),
        (" --pty=90x30", "stat -c %U $(tty); stty size"),
    ] {
        // script gives the shell a controlling terminal, as an administrator has.
        let line = format!(
            "exec 2>/tmp/tilda; {child}{variant} -- '{looks}'; echo then $(stat -c '%U %a' $(tty)) $(stty size | wc -w)"
        );
        node.write("/tmp/tilda.sh", &line);
        let ran = node.run(&["script", "-qec", "sh /tmp/tilda.sh", "/dev/null"]);
        let shown = ran.must().replace('\r', "");
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.contains(&"tilda"), "{ran}");
        assert_eq!(lines.last(), Some(&"then root 620 2"), "{ran}");
        if !variant.is_empty() {
            assert!(lines.contains(&"30 90"), "{ran}");
        }
    }
}

#[test]
fn nobody_elses_terminal_is_given_away() {
    let node = node();
    // Somebody else's shell, on a terminal of root's, all the while.
    let mut other = node
        .command(&["script", "-qec", "tty >/tmp/other; sleep 60", "/dev/null"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("started");
    node.within(
        std::time::Duration::from_secs(30),
        "the other terminal is there",
        |node| node.sh("test -s /tmp/other").succeeded(),
    );
    node.login("tine")
        .option("--pty", "80x24")
        .command("true")
        .run()
        .ran
        .must();
    node.login("tine").command("true").run().ran.must();
    let owner = node.sh("stat -c '%U' $(cat /tmp/other)");
    assert_eq!(owner.must(), "root");
    let _ = other.kill();
    let _ = other.wait();
}

/// One run: with a terminal or without, each with another size, output and status.
fn run(number: usize) -> Result<(), String> {
    let node = node();
    // 251 and above are the client's own.
    let status = i32::try_from(number * 7 % 251).unwrap_or(0);
    let (columns, rows) = (20 + number, 10 + number / 2);
    let login = format!("ted{}", number % 6);
    let command = format!(
        "stty size 2>/dev/null || echo no terminal; echo out {number}; echo err {number} >&2; exit {status}"
    );
    let builder = node.login(&login).command(&command);
    let terminal = number.is_multiple_of(2);
    let ended = if terminal {
        builder.option("--pty", &format!("{columns}x{rows}")).run()
    } else {
        builder.run()
    };
    let first = if terminal {
        format!("{rows} {columns}")
    } else {
        "no terminal".to_owned()
    };
    let expected = [first, format!("out {number}"), format!("err {number}")];
    if ended.ran.status == status
        && lines(&ended) == expected
        && ended.code("close") == Some("SUCCESS")
    {
        Ok(())
    } else {
        Err(format!("expected {status} and {expected:?}: {ended:?}"))
    }
}

#[test]
fn size_output_and_exit_status_are_unharmed_in_two_hundred_runs() {
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let failures = &failures;
            scope.spawn(move || {
                for number in (lane..200).step_by(4) {
                    if let Err(failure) = run(number)
                        && let Ok(mut failures) = failures.lock()
                    {
                        failures.push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    assert!(
        failures.is_empty(),
        "{} of 200: {}",
        failures.len(),
        failures[0]
    );
}
