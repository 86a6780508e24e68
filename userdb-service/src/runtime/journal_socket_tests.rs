//! Tests of `journal_socket` against a socket that is read when the test says so, or never.

use super::*;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use tokio::time::{sleep, timeout};
use tracing_subscriber::layer::SubscriberExt;

fn journal(name: &str) -> (UnixDatagram, PathBuf) {
    let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let journal = UnixDatagram::bind(&path).unwrap();
    journal.set_nonblocking(true).unwrap();
    (journal, path)
}

fn read(journal: &UnixDatagram) -> Option<String> {
    let mut line = vec![0; 100_000];
    let length = journal.recv(&mut line).ok()?;
    Some(String::from_utf8_lossy(&line[..length]).into_owned())
}

/// Others have filled it: who, and with how many lines.
fn fill(path: &Path) -> Vec<(UnixDatagram, usize)> {
    let mut others = Vec::new();
    loop {
        let other = UnixDatagram::unbound().unwrap();
        other.set_nonblocking(true).unwrap();
        let sent = (0..).take_while(|_| other.send_to(b"x", path).is_ok());
        match sent.count() {
            0 => return others,
            sent => others.push((other, sent)),
        }
    }
}

fn lines_of(others: &[(UnixDatagram, usize)]) -> usize {
    others.iter().map(|(_, sent)| sent).sum()
}

#[test]
fn a_line_goes_over_with_its_fields_and_a_value_of_several_lines_stays_one_value() {
    let (journal, path) = journal("line");
    let to = ToJournal::at(&path, false).unwrap();
    assert_eq!(read(&journal).as_deref(), Some(""));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(to), || {
        tracing::warn!(_login = "a\nUID=0", uid.of = 7, "said");
    });
    let line = read(&journal).unwrap();
    for field in [
        "PRIORITY\n\u{1}\0\0\0\0\0\0\u{0}4\n",
        "LOGIN\n\u{7}\0\0\0\0\0\0\0a\nUID=0\n",
        "UID_OF\n\u{1}\0\0\0\0\0\0\u{0}7\n",
        "MESSAGE\n\u{4}\0\0\0\0\0\0\0said\n",
    ] {
        assert!(line.contains(field), "{line:?}");
    }
    let _ = std::fs::remove_file(&path);
    let none = ToJournal::at(&path, false).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
}

fn numbered(to: &ToJournal, number: usize) -> Fields {
    let mut line = to.0.line(Level::INFO);
    line.put("NUMBER", &number.to_string());
    line
}

fn number_of(line: &str) -> Option<usize> {
    let (_, value) = line.split_once("NUMBER\n")?;
    value.get(8..)?.trim_end().parse().ok()
}

/// What the journal has after so many lines of others, while what is kept is sent again and again.
fn read_on(journal: &UnixDatagram, to: &ToJournal, of_others: usize) -> Vec<String> {
    for _ in 0..of_others {
        assert_eq!(read(journal).as_deref(), Some("x"));
    }
    let mut lines = Vec::new();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(20), "{lines:?}");
        let progress = to.0.send_kept();
        let before = lines.len();
        lines.extend(std::iter::from_fn(|| read(journal)));
        if progress == Progress::Done && lines.len() == before {
            return lines;
        }
    }
}

#[test]
fn lines_for_a_journal_that_hangs_are_kept_in_their_order_and_nobody_waits() {
    let (journal, path) = journal("jam");
    let others = fill(&path);
    let to = ToJournal::at(&path, false).unwrap();
    let began = Instant::now();
    (0..450).for_each(|number| to.0.tell(numbered(&to, number)));
    // Who comes when there is room does not go first.
    assert_eq!(read(&journal).as_deref(), Some("x"));
    (450..900).for_each(|number| to.0.tell(numbered(&to, number)));
    let took = began.elapsed();
    assert!(took < LAST_PATIENCE, "{took:?}");
    let lines = read_on(&journal, &to, lines_of(&others) - 1);
    let numbers: Vec<_> = lines.iter().map(|line| number_of(line).unwrap()).collect();
    assert_eq!(numbers, Vec::from_iter(0..900));
    to.0.tell(numbered(&to, 900));
    assert_eq!(number_of(&read(&journal).unwrap()), Some(900));
    assert_eq!(to.0.kept().bytes, 0);
    let _ = std::fs::remove_file(path);
}

#[test]
fn how_many_lines_there_was_no_room_for_is_told_after_those_before_them() {
    let (journal, path) = journal("lost");
    let others = fill(&path);
    let to = ToJournal::at(&path, false).unwrap();
    let one = numbered(&to, 10_000).0.len();
    let all = ROOM / one + 500;
    (10_000..10_000 + all).for_each(|number| to.0.tell(numbered(&to, number)));
    // There is room again for some, of which there will be told after it.
    let freed = ROOM / one / 2 + 2;
    (0..freed).for_each(|_| to.0.kept().drop_first());
    to.0.tell(numbered(&to, 99_999));
    let mut lines = read_on(&journal, &to, lines_of(&others));
    assert_eq!(number_of(&lines.pop().unwrap()), Some(99_999));
    let told = lines.pop().unwrap();
    assert!(told.contains(": 500 lines are lost\n"), "{told:?}");
    assert!(told.contains("PRIORITY\n\u{1}\0\0\0\0\0\0\u{0}4\n"));
    let numbers: Vec<_> = lines.iter().map(|line| number_of(line).unwrap()).collect();
    assert_eq!(numbers, Vec::from_iter(10_000 + freed..10_000 + ROOM / one));
    let _ = std::fs::remove_file(path);
}

#[test]
fn a_line_that_the_socket_will_never_take_keeps_no_other_from_being_told() {
    let (journal, path) = journal("long");
    let to = ToJournal::at(&path, false).unwrap();
    setsockopt(&to.0.socket, SndBuf, &0).unwrap();
    let mut long = numbered(&to, 1);
    long.put("MESSAGE", &"x".repeat(10_000));
    to.0.tell(long);
    to.0.tell(numbered(&to, 2));
    let lines = read_on(&journal, &to, 0);
    assert!(lines[1].contains(" bytes is lost: "), "{lines:?}");
    assert_eq!(number_of(&lines[2]), Some(2));
    let _ = std::fs::remove_file(path);
}

#[test]
fn a_journal_that_comes_back_under_its_name_gets_what_was_said_meanwhile() {
    let (gone, path) = journal("gone");
    let to = ToJournal::at(&path, false).unwrap();
    drop(gone);
    to.0.tell(numbered(&to, 1));
    std::fs::remove_file(&path).unwrap();
    to.0.tell(numbered(&to, 2));
    let started_meanwhile = ToJournal::at(&path, true).unwrap();
    started_meanwhile.0.tell(numbered(&to, 3));
    let (journal, path) = journal("gone");
    for (to, said) in [
        (&to, &[Some(1), Some(2)][..]),
        (&started_meanwhile, &[Some(3)]),
    ] {
        let lines = read_on(&journal, to, 0);
        let numbers: Vec<_> = lines.iter().map(|line| number_of(line)).collect();
        assert_eq!(numbers, said);
    }
    let _ = std::fs::remove_file(path);
}

#[test]
fn what_is_kept_is_sent_by_itself_and_at_the_end_for_a_tenth_of_a_second() {
    let (journal, path) = journal("by-itself");
    let others = fill(&path);
    let to = ToJournal::at(&path, false).unwrap();
    to.0.tell(numbered(&to, 0));
    let began = Instant::now();
    to.send_last();
    assert!(began.elapsed() >= LAST_PATIENCE, "{:?}", began.elapsed());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let reading = async {
        sleep(NAP * 20).await;
        while read(&journal).as_deref() == Some("x") {}
        // Long before it would be tried without being woken.
        while to.0.kept().bytes > 0 {
            sleep(NAP).await;
        }
        assert_eq!(number_of(&read(&journal).unwrap()), Some(0));
    };
    runtime.unwrap().block_on(async {
        tokio::select! {
            () = to.keep_sending() => {}
            read = timeout(LONGEST_WAIT * 20, reading) => read.unwrap(),
        }
    });
    drop(others);
    let _ = std::fs::remove_file(path);
}
