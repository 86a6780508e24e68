//! The run: a node, the subjects in turn, the strangers, and the page.
//! What is asked and how it is timed is of the program inside; which figure is good enough is of `goals`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use bench::{Rounds, compile, machine_line, write_section};
use rig::{Machine, Suite};

use crate::goals::{Hostile, Measured, page};
use crate::{OUR_SOCKET, OURS, Result, lookups};

/// Interleaved rounds of everything that is a ratio, for figures that may be published.
const ROUNDS: usize = 7;
const PROGRAM: &str = "/usr/local/bin/bench-userdb";
const FLOOR: &str = "/usr/local/bin/varlinkd";
const RECORDS: &str = "/run/bench-records";
const FLOOR_SOCKET: &str = "/run/bench-floor";

/// Who is asked: a word for it, the service name, the socket.
pub(crate) const SUBJECTS: [(&str, &str, &str); 4] = [
    ("floor", OURS, FLOOR_SOCKET),
    ("ours", OURS, OUR_SOCKET),
    (
        "drop-ins",
        "io.systemd.DropIn",
        "/run/systemd/userdb/io.systemd.DropIn",
    ),
    (
        "multiplexer",
        "io.systemd.Multiplexer",
        "/run/systemd/userdb/io.systemd.Multiplexer",
    ),
];

const DYNAMIC_USER: &str = "bench-dynamic";
const DROPPED_IN: &str = "bench-dropped-in";
/// Whose names nss-systemd is asked for.
pub(crate) const LOOKED_UP: [(&str, &str); 3] = [
    ("a `DynamicUser=`", DYNAMIC_USER),
    ("somebody dropped in", DROPPED_IN),
    ("nobody", lookups::NOBODY),
];

/// Loads: a word, what is asked, by how many connections, kept or fresh.
pub(crate) const LOADS: [(&str, &str, &str, &str); 5] = [
    ("name", "name", "1", "kept"),
    ("uid", "uid", "1", "kept"),
    ("miss", "miss", "1", "kept"),
    ("name by 64", "name", "64", "kept"),
    ("name, fresh connections", "name", "1", "fresh"),
];

/// Measures everything and rewrites the page.
pub(crate) fn run() -> Result {
    let text = measure(ROUNDS)?;
    Ok(write_section("userdb", &text)?)
}

/// One round of everything, shown and not published: whether it all works, and roughly how fast.
pub(crate) fn short() -> Result {
    measure(1).map(drop)
}

fn measure(rounds: usize) -> Result<String> {
    let node = Machine::boot(Suite::Trixie)?;
    node.install_package()?.must();
    node.copy_in(&std::env::current_exe()?, PROGRAM)?;
    let scratch = std::env::temp_dir();
    let floor = compile(
        "varlinkd.c",
        &[],
        &scratch,
        &format!("varlinkd-{}", std::process::id()),
    )?;
    node.copy_in(&floor, FLOOR)?;
    std::fs::remove_file(&floor)?;

    let mut measured = Measured {
        idle_kib: pss(&node, &["teleport-sessiond", "teleport-userdbd"])?,
        ..Measured::default()
    };
    // Its accounts would be taken for damage; nobody logs in here.
    node.run(&[
        "systemctl",
        "stop",
        "teleport-sessiond.service",
        "teleport-sessiond.socket",
    ])
    .must();
    with_users(&node, 1000, |node| {
        for round in 0..rounds {
            loads(node, &mut measured.loads, round)?;
            lists(node, &mut measured.lists, &SUBJECTS, 1000, round)?;
        }
        measured
            .memory
            .add("ours", pss(node, &["teleport-userdbd"])?);
        measured.memory.add(
            "userdbd",
            pss(node, &["systemd-userdbd", "systemd-userwork"])?,
        );
        measured.slowest_ms = slowest(node)?;
        measured.nss = presence(node, rounds)?;
        measured.hostile = hostile(node, rounds)?;
        Ok(())
    })?;
    with_users(&node, 10_000, |node| {
        for round in 0..rounds {
            lists(
                node,
                &mut measured.long_lists,
                &SUBJECTS[..2],
                10_000,
                round,
            )?;
        }
        measured.after_lists_kib = pss(node, &["teleport-userdbd"])?;
        Ok(())
    })?;
    let text = page(&machine_line(), &measured);
    println!("{text}");
    Ok(text)
}

/// Publishes users and starts the floor with the same ones.
fn with_users(node: &Machine, users: u32, measure: impl FnOnce(&Machine) -> Result) -> Result {
    let users = users.to_string();
    node.run(&[PROGRAM, "publish", &users]).must();
    node.run(&["systemctl", "restart", "teleport-userdbd.service"])
        .must();
    node.run(&[PROGRAM, "records", RECORDS]).must();
    let mut floor = node.command(&[FLOOR, FLOOR_SOCKET, RECORDS]).spawn()?;
    node.within(
        std::time::Duration::from_secs(5),
        "the floor listens",
        |node| {
            node.run(&[PROGRAM, "list", OURS, FLOOR_SOCKET, "all", &users, "known"])
                .succeeded()
        },
    );
    let outcome = measure(node);
    node.run(&["pkill", "-x", "varlinkd"]);
    let _ = floor.wait();
    outcome
}

/// The figures that the program inside told.
fn figures(node: &Machine, arguments: &[&str]) -> Result<Vec<f64>> {
    told(node, &[&[PROGRAM], arguments].concat())
}

/// The same of one who asks for one thing at a time, on the processor of those who answer: else it is luck on which the kernel
/// wakes them, a matter of 10 or 40 µs.
fn figures_on_one(node: &Machine, arguments: &[&str]) -> Result<Vec<f64>> {
    keep_on(node, "0");
    let figures = told(
        node,
        &[&["taskset", "-c", "0", PROGRAM], arguments].concat(),
    );
    keep_on(node, "0-1023");
    figures
}

/// Has all providers, and what they start, run on these processors only.
fn keep_on(node: &Machine, processors: &str) {
    let names = "varlinkd|teleport-userdb|systemd-userdbd|systemd-userwor";
    // A worker may end meanwhile.
    node.sh(&format!(
        "for pid in $(pgrep -x '{names}'); do taskset -a -p -c {processors} $pid || true; done"
    ))
    .must();
}

fn told(node: &Machine, command: &[&str]) -> Result<Vec<f64>> {
    let ran = node.run(command);
    if !ran.succeeded() {
        return Err(ran.to_string().into());
    }
    let figures: std::result::Result<Vec<f64>, _> =
        ran.stdout.split_whitespace().map(str::parse).collect();
    Ok(figures?)
}

/// Who begins changes from round to round.
fn in_turn<T>(all: &[T], round: usize) -> impl Iterator<Item = &T> {
    (0..all.len()).map(move |at| &all[(at + round) % all.len()])
}

fn loads(node: &Machine, into: &mut Rounds, round: usize) -> Result {
    for (load, what, connections, pace) in LOADS {
        for (subject, service, socket) in in_turn(&SUBJECTS, round) {
            let ask = match connections {
                "1" => figures_on_one,
                _ => figures,
            };
            let told = ask(
                node,
                &["load", service, socket, what, connections, pace, "1000"],
            )?;
            let figures = ["rate", "p50", "p99", "max", "own"];
            if told.len() != figures.len() {
                return Err(format!("a load told {told:?}").into());
            }
            for (figure, value) in figures.iter().zip(told) {
                into.add(&format!("{load}: {figure} {subject}"), value);
            }
        }
    }
    Ok(())
}

fn lists(
    node: &Machine,
    into: &mut Rounds,
    subjects: &[(&str, &str, &str)],
    users: u32,
    round: usize,
) -> Result {
    for (subject, service, socket) in in_turn(subjects, round) {
        let users = users.to_string();
        let list = |what, users, pace| {
            figures(node, &["list", service, socket, what, users, pace]).map(|told| told[0])
        };
        into.add(&format!("all {subject}"), list("all", &users, "known")?);
        // Nothing is changed for the others: what they say has been made beforehand, or is made for each who asks.
        if *subject == "ours" {
            into.add("changed ours", list("all", &users, "changed")?);
        }
        // The Multiplexer tells the memberships of NSS as well: one user has more than one there.
        if *subject != "multiplexer" {
            let of_one = ["list", service, socket, "memberships", "1", "known"];
            let told = figures_on_one(node, &of_one)?;
            into.add(&format!("memberships {subject}"), told[0]);
        }
    }
    Ok(())
}

/// The slowest request of ours at 16 to 256 busy connections among 200 idle ones, in milliseconds.
fn slowest(node: &Machine) -> Result<f64> {
    let idle = Strangers::there(node, "idle", 200, 4)?;
    let mut slowest = 0.0_f64;
    for connections in ["16", "64", "128", "256"] {
        for _ in 0..3 {
            let told = figures(
                node,
                &[
                    "load",
                    OURS,
                    OUR_SOCKET,
                    "name",
                    connections,
                    "kept",
                    "1000",
                ],
            )?;
            slowest = slowest.max(told[3] / 1e3);
        }
    }
    idle.away();
    Ok(slowest)
}

/// Lookups through nss-systemd of names that are not ours, without userdbd: with our socket there, without, and with the floor's
/// in its place.
fn presence(node: &Machine, rounds: usize) -> Result<Rounds> {
    const STOPPED: [&str; 2] = ["systemd-userdbd.socket", "systemd-userdbd.service"];
    node.run(&[&["systemctl", "stop"], &STOPPED[..]].concat())
        .must();
    node.sh("cp /etc/nsswitch.conf /run/nsswitch && sed -i 's/^passwd:.*/passwd: systemd/' /etc/nsswitch.conf").must();
    node.run(&[
        "systemd-run",
        "--unit=bench-dynamic",
        "-pDynamicUser=yes",
        &format!("-pUser={DYNAMIC_USER}"),
        "sleep",
        "infinity",
    ])
    .must();
    node.run(&["mkdir", "-p", "/etc/userdb"]).must();
    node.write(
        &format!("/etc/userdb/{DROPPED_IN}.user"),
        &format!("{{\"userName\":\"{DROPPED_IN}\",\"uid\":1111111,\"gid\":1111111}}"),
    );
    let mut taken = Rounds::default();
    let ours = "/run/bench-ours";
    node.run(&["mv", OUR_SOCKET, ours]).must();
    for round in 0..rounds {
        for (subject, socket) in in_turn(
            &[
                ("without", None),
                ("ours", Some(ours)),
                ("floor", Some(FLOOR_SOCKET)),
            ],
            round,
        ) {
            if let Some(socket) = socket {
                node.run(&["mv", socket, OUR_SOCKET]).must();
            }
            for (_, whose) in LOOKED_UP {
                let told = figures(node, &["lookups", whose])?;
                taken.add(&format!("{whose} {subject}"), told[0]);
                taken.add(&format!("{whose} {subject}, own"), told[1]);
            }
            if let Some(socket) = socket {
                node.run(&["mv", OUR_SOCKET, socket]).must();
            }
        }
    }
    node.run(&["mv", ours, OUR_SOCKET]).must();
    node.run(&["systemctl", "stop", "bench-dynamic"]).must();
    node.run(&["rm", "-r", "/etc/userdb"]).must();
    node.sh("cat /run/nsswitch >/etc/nsswitch.conf").must();
    node.run(&["systemctl", "start", STOPPED[0]]).must();
    Ok(taken)
}

fn hostile(node: &Machine, rounds: usize) -> Result<Hostile> {
    let quiet = figures(node, &["root", "2000"])?;
    let strangers = [
        Strangers::there(node, "idle", 5000, 50)?,
        Strangers::there(node, "half", 500, 5)?,
        Strangers::there(node, "deaf", 1, 1)?,
        Strangers::there(node, "flood", 64, 4)?,
    ];
    let mut taken = Rounds::default();
    let mut resident = 0.0_f64;
    for _ in 0..rounds {
        let told = figures(node, &["root", "1000"])?;
        for (figure, value) in [("p50", told[1]), ("p99", told[2]), ("max", told[3])] {
            taken.add(figure, value);
        }
        resident = resident.max(resident_kib(node)?);
    }
    strangers.into_iter().for_each(Strangers::away);
    Ok(Hostile {
        quiet_p99_ms: quiet[2],
        p50_ms: taken.median("p50"),
        p99_ms: taken.median("p99"),
        max_ms: taken.samples("max").iter().copied().fold(0.0, f64::max),
        resident_kib: resident,
    })
}

/// A kind of strangers that has come.
struct Strangers(Child);

impl Strangers {
    fn there(node: &Machine, kind: &str, connections: u32, uids: u32) -> Result<Strangers> {
        let arguments = [
            PROGRAM,
            "crowd",
            kind,
            &connections.to_string(),
            &uids.to_string(),
        ];
        let command = node
            .command(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut strangers = Strangers(command?);
        let mut line = String::new();
        if let Some(stdout) = strangers.0.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line == "there\n" {
            return Ok(strangers);
        }
        Err(format!("strangers of the kind {kind} did not come").into())
    }

    fn away(mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Memory in KiB that is the processes' own, and their share of what is shared.
fn pss(node: &Machine, programs: &[&str]) -> Result<f64> {
    let mut sum = 0.0;
    for program in programs {
        let pids = node.run(&["pgrep", "-f", &format!("^(/[^ ]*/)?{program}([: ]|$)")]);
        let pids: Vec<&str> = pids.stdout.split_whitespace().collect();
        if pids.is_empty() {
            return Err(format!("{program} does not run").into());
        }
        for pid in pids {
            let map = node.run(&["cat", &format!("/proc/{pid}/smaps_rollup")]);
            sum += kib(&map.stdout, "Pss:")?;
        }
    }
    Ok(sum)
}

fn resident_kib(node: &Machine) -> Result<f64> {
    let status =
        node.sh("cat /proc/$(systemctl show --value -p MainPID teleport-userdbd.service)/status");
    kib(&status.stdout, "VmRSS:")
}

fn kib(text: &str, key: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.ok_or_else(|| format!("no {key} in {text}"))?.parse()?)
}
