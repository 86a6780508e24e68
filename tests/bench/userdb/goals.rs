//! What was measured, and which of it is good enough: the section of the page.
//! Pure: the figures come from outside.

use bench::{Bound, Goal, Rounds, goals_table, table};

use crate::conduct::{LOADS, LOOKED_UP, SUBJECTS};

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) loads: Rounds,
    /// Milliseconds, of 1,000 users.
    pub(crate) lists: Rounds,
    /// Milliseconds, of 10,000 users.
    pub(crate) long_lists: Rounds,
    /// Microseconds.
    pub(crate) nss: Rounds,
    /// KiB.
    pub(crate) memory: Rounds,
    pub(crate) slowest_ms: f64,
    pub(crate) hostile: Hostile,
    /// Both daemons of ours, before anybody asked anything.
    pub(crate) idle_kib: f64,
    pub(crate) after_lists_kib: f64,
}

/// Lookups as root among strangers who do their worst.
#[derive(Debug, Default)]
pub(crate) struct Hostile {
    pub(crate) quiet_p99_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) resident_kib: f64,
}

pub(crate) fn page(machine: &str, of: &Measured) -> String {
    let beside = |load: &str, figure: &str, one: &str, other: &str| {
        of.loads.ratio(
            &format!("{load}: {figure} {one}"),
            &format!("{load}: {figure} {other}"),
        )
    };
    let loads = |load: &str, figure: &str, other: &str| beside(load, figure, "ours", other);
    let (most, least) = (Bound::AtMost, Bound::AtLeast);
    let goal = |what: &str, bound, measured| Goal::new(what, bound, measured);
    let mut goals = Vec::new();
    for load in ["name", "uid", "miss", "name, fresh connections"] {
        goals.push(goal(
            &format!("{load}: p50 / C server"),
            most(1.5),
            loads(load, "p50", "floor"),
        ));
        for (other, key, bound) in [
            ("drop-ins", "drop-ins", 0.25),
            ("Multiplexer", "multiplexer", 0.12),
        ] {
            let what = format!("{load}: p50 / {other}");
            let floor = beside(load, "p50", "floor", key);
            goals.push(goal(&what, most(bound), loads(load, "p50", key)).with_floor(floor));
        }
    }
    let present = |whose: &str, who| {
        of.nss
            .ratio(&format!("{whose} {who}"), &format!("{whose} without"))
    };
    for (whose, key) in LOOKED_UP {
        let what = format!("nss-systemd's lookup of {whose} with our provider / without");
        goals.push(goal(&what, most(1.15), present(key, "ours")).with_floor(present(key, "floor")));
    }
    let by_64 = |other| loads("name by 64", "rate", other);
    goals.extend([
        goal(
            "64 connections: requests/s / C server",
            least(0.5),
            by_64("floor"),
        ),
        goal(
            "64 connections: requests/s / drop-ins",
            least(8.0),
            by_64("drop-ins"),
        ),
        goal(
            "64 connections: requests/s / Multiplexer",
            least(30.0),
            by_64("multiplexer"),
        ),
        goal(
            "slowest request at 16 to 256 connections beside 200 idle ones, ms",
            most(50.0),
            of.slowest_ms,
        ),
        goal(
            "list of 1,000 users / C server",
            most(2.0),
            of.lists.ratio("all ours", "all floor"),
        ),
        goal(
            "first list of 1,000 users after a login / C server",
            most(2.0),
            of.lists.ratio("changed ours", "all floor"),
        ),
        goal(
            "list of 1,000 users / drop-ins",
            most(1.0 / 40.0),
            of.lists.ratio("all ours", "all drop-ins"),
        ),
        goal(
            "list of 10,000 users / C server",
            most(2.0),
            of.long_lists.ratio("all ours", "all floor"),
        ),
        goal(
            "first list of 10,000 users after a login / C server",
            most(2.0),
            of.long_lists.ratio("changed ours", "all floor"),
        ),
        goal(
            "memberships of a user / drop-ins",
            most(0.01),
            of.lists.ratio("memberships ours", "memberships drop-ins"),
        ),
        goal(
            "root's p99 among strangers, ms",
            most(5.0),
            of.hostile.p99_ms,
        ),
        goal(
            "resident memory among them, MiB",
            most(64.0),
            of.hostile.resident_kib / 1024.0,
        ),
        goal(
            "memory with 1,000 users / userdbd and its workers",
            most(0.5),
            of.memory.ratio("ours", "userdbd"),
        ),
        goal(
            "both daemons idle, MB",
            most(12.0),
            of.idle_kib * 1024.0 / 1e6,
        ),
    ]);
    format!(
        "{machine} Debian trixie booted in a container; 1,000 users unless said otherwise. Who asks for one thing at a time runs on one \
         processor together with who answers, whichever it is that answers.\n\n{}\n{}\n{}\n\
         Our first list of 1,000 users after a login takes {:.3} ms. A list of 10,000 users takes {:.2} ms (C server {:.2}); afterwards the daemon has {:.1} MB. \
         Strangers are 5,000 idle connections, 500 half messages, 64 floods and one list that nobody reads, all of other \
         users: root's lookups, a connection each, then take {:.2} ms in the middle and {:.1} at the most (p99 without \
         strangers: {:.2}). Of a fresh connection's time the asker itself runs {:.1} µs. The floor of nss-systemd's lookups is the C server in our place.\n\n{}",
        requests(of),
        table(
            &[
                "list, ms: p50 (best span of 50 ms)",
                "C server",
                "ours",
                "drop-ins",
                "Multiplexer"
            ],
            &[
                lists("1,000 users", of, "all"),
                lists("memberships of one user", of, "memberships"),
            ]
        ),
        goals_table(&goals),
        of.lists.median("changed ours"),
        of.long_lists.median("all ours"),
        of.long_lists.median("all floor"),
        of.after_lists_kib * 1024.0 / 1e6,
        of.hostile.p50_ms,
        of.hostile.max_ms,
        of.hostile.quiet_p99_ms,
        of.loads.median("name, fresh connections: own ours"),
        presence(of)
    )
}

/// What nss-systemd's lookups take, and how much of it is the client's own work.
fn presence(of: &Measured) -> String {
    let rows = LOOKED_UP.map(|(whose, key)| {
        let cells = ["without", "ours", "floor"].map(|who| {
            let figure = |part: &str| of.nss.median(&format!("{key} {who}{part}"));
            format!("{:.0}, {:.0}", figure(""), figure(", own"))
        });
        [vec![whose.to_owned()], cells.to_vec()].concat()
    });
    table(
        &[
            "nss-systemd's lookup, µs: p50; how long the client itself was running (mean)",
            "without us",
            "with us",
            "with the C server",
        ],
        &rows,
    )
}

fn lists(what: &str, of: &Measured, key: &str) -> Vec<String> {
    let figures = SUBJECTS.map(|(subject, ..)| of.lists.median(&format!("{key} {subject}")));
    let shown = figures.map(|ms| {
        if ms.is_nan() {
            "–".into()
        } else {
            format!("{ms:.3}")
        }
    });
    [vec![what.to_owned()], shown.to_vec()].concat()
}

/// Requests a second, and the times of single ones.
fn requests(of: &Measured) -> String {
    let rows: Vec<Vec<String>> = LOADS
        .iter()
        .map(|(load, ..)| {
            let cells = SUBJECTS.map(|(subject, ..)| {
                let figure = |name: &str| of.loads.median(&format!("{load}: {name} {subject}"));
                format!(
                    "{:.1}k, {:.1}; {:.0}, {:.0}",
                    figure("rate") / 1e3,
                    figure("p50"),
                    figure("p99"),
                    figure("max")
                )
            });
            [vec![(*load).to_owned()], cells.to_vec()].concat()
        })
        .collect();
    table(
        &[
            "requests/s, p50 (best span of 50 ms); p99, max µs",
            "C server",
            "ours",
            "drop-ins",
            "Multiplexer",
        ],
        &rows,
    )
}
