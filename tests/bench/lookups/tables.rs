//! The tables of the page: who took how long.
//! Pure; which of it is good enough is `report`'s business.

use bench::table;

use crate::calls::Call;
use crate::report::Measured;
use crate::subject::{Kind, SIZES};

const SERVICES: [Kind; 8] = [
    Kind::Null,
    Kind::Shm,
    Kind::Teleport,
    Kind::Nscd,
    Kind::Sss,
    Kind::Files,
    Kind::Systemd,
    Kind::Userdbd,
];

pub(crate) fn by_call(measured: &Measured, users: u32) -> String {
    let mut head = vec!["".to_owned()];
    head.extend(Call::FIVE.map(|call| call.name().to_owned()));
    head.extend([
        "group of ten".to_owned(),
        "getpwnam of the same ten".to_owned(),
    ]);
    head.extend(Call::FIVE.map(|call| format!("{}, miss", call.name())));
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let row = |name: String, cell: &dyn Fn(&str) -> String| {
        let hits = Call::ALL.map(|call| cell(&format!("{}-hit", call.name())));
        let misses = Call::FIVE.map(|call| cell(&format!("{}-miss", call.name())));
        [vec![name], hits.to_vec(), misses.to_vec()].concat()
    };
    let mut rows: Vec<Vec<String>> = SERVICES
        .into_iter()
        .map(|kind| {
            row(title(kind).to_owned(), &|what| {
                time(measured.median(what, kind, users))
            })
        })
        .collect();
    rows.push(row("libnss_teleport / bare C".to_owned(), &|what| {
        format!("{:.2}", measured.beside(what, Kind::Shm, users))
    }));
    table(&head, &rows)
}

pub(crate) fn by_size(measured: &Measured) -> String {
    let sizes = SIZES.map(|users| format!("{users}"));
    let mut head = vec![""];
    head.extend(sizes.iter().map(String::as_str));
    let mut rows = Vec::new();
    for hit in ["hit", "miss"] {
        for kind in SERVICES {
            let mut row = vec![format!("{}, {hit}", title(kind))];
            row.extend(
                SIZES.map(|users| time(measured.median(&format!("getpwnam-{hit}"), kind, users))),
            );
            rows.push(row);
        }
    }
    table(&head, &rows)
}

pub(crate) fn fresh(measured: &Measured) -> String {
    let rows: Vec<Vec<String>> = SERVICES
        .into_iter()
        .map(|kind| {
            let mut row = vec![title(kind).to_owned()];
            row.extend(["hit", "miss", "login"].map(|what| {
                let what = format!("first-{what}");
                let micros = measured.median(&what, kind, 1_000);
                format!(
                    "{} ({:.2})",
                    time(micros * 1e3),
                    measured.ratio(&what, (kind, 1_000), (Kind::Shm, 1_000), None)
                )
            }));
            row
        })
        .collect();
    table(
        &[
            "(in brackets: times the bare C module)",
            "hit",
            "miss",
            "login",
        ],
        &rows,
    )
}

pub(crate) fn threads(measured: &Measured) -> String {
    let rows: Vec<Vec<String>> = [Kind::Teleport, Kind::Shm, Kind::Nscd, Kind::Sss]
        .into_iter()
        .map(|kind| {
            let mut row = vec![title(kind).to_owned()];
            row.extend([1, 2, 4].map(|threads: u32| {
                format!(
                    "{:.1}",
                    measured.median(&format!("threads-{threads}"), kind, 1_000)
                )
            }));
            row
        })
        .collect();
    table(
        &[
            "getpwnam hits, millions a second, 1,000 users",
            "1 thread",
            "2",
            "4",
        ],
        &rows,
    )
}

pub(crate) fn publishing(measured: &Measured) -> String {
    let sizes = SIZES.map(|users| format!("{users}"));
    let mut head = vec!["users in the table"];
    head.extend(sizes.iter().map(String::as_str));
    let mut row = vec!["one change (publish or withdraw)".to_owned()];
    row.extend(SIZES.map(|users| time(measured.median("publish", Kind::Publisher, users) * 1e3)));
    table(&head, &[row])
}

pub(crate) fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Teleport => "libnss_teleport",
        Kind::Shm => "bare C, shared memory",
        Kind::Null => "bare C, constant",
        Kind::Files => "nss_files",
        Kind::Systemd => "nss_systemd, drop-ins",
        Kind::Userdbd => "nss_systemd, systemd-userdbd",
        Kind::Nscd => "nscd, warm",
        Kind::Sss => "SSSD, memory cache",
        Kind::Publisher => "publishing",
    }
}

/// Nanoseconds as people read them.
fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n.is_nan() => "–".to_owned(),
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e5 => format!("{:.1} µs", n / 1e3),
        n if n < 1e6 => format!("{:.0} µs", n / 1e3),
        n => format!("{:.1} ms", n / 1e6),
    }
}
