//! The thread in folders of its own, and the order in which it does what it has been told.
//! What a file has to be is tested beside `files`.

use super::*;

fn folder(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("sudoers-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap();
    path
}

#[tokio::test]
async fn orders_are_carried_out_in_turn_and_a_grant_that_nobody_waits_for_is_not_made() {
    let path = folder("turns");
    let thread = SudoersThread::start(&path).unwrap();
    let zed = Login::try_from("zed").unwrap();
    let yan = Login::try_from("yan").unwrap();
    let full = [SudoersSpec::full()];
    thread.write(&zed, &full).come().await.unwrap().unwrap();
    let removed = thread.remove(&zed);
    let again = thread.write(&zed, &full);
    // A folder of many files keeps the thread busy until the next order has lost its giver.
    for name in 0..2000 {
        std::fs::write(path.join(format!("teleport-{name}")), "x\n").unwrap();
    }
    let swept = thread.sweep(BTreeSet::from([zed.clone()]));
    drop(thread.write(&yan, &full));
    assert_eq!(removed.come().await.unwrap().unwrap(), Removal::Removed);
    again.come().await.unwrap().unwrap();
    swept.come().await.unwrap().unwrap();
    assert_eq!(
        thread.remove(&yan).come().await.unwrap().unwrap(),
        Removal::Absent
    );
    assert!(thread.look.is_taken(&zed) && !thread.look.is_taken(&yan));
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn removals_come_before_grants_that_wait_and_undo_only_what_was_ordered_before_them() {
    let [zed, yan] = ["zed", "yan"].map(|name| Login::try_from(name).unwrap());
    let mut waiting = Waiting::default();
    let write = |waiting: &mut Waiting, login: &Login| {
        let (reply, answer) = Answer::to_come();
        waiting.add(Order::Other(Work::Write(login.clone(), Vec::new(), reply)));
        answer
    };
    let mut undone = write(&mut waiting, &zed);
    let mut other = write(&mut waiting, &yan);
    let (reply, _removed) = Answer::to_come();
    waiting.add(Order::Remove(zed.clone(), reply));
    let mut later = write(&mut waiting, &zed);
    assert!(!undone.is_awaited() && matches!(undone, Answer::Come(Ok(()))));
    assert!(other.is_awaited() && later.is_awaited());
    assert_eq!(waiting.removals.len(), 1);
    let left = std::iter::from_fn(|| waiting.next()).map(|work| match work {
        Work::Write(login, ..) => login,
        Work::Sweep(..) => panic!("none was ordered"),
    });
    assert_eq!(left.collect::<Vec<_>>(), [yan, zed]);
}

#[test]
fn those_whose_order_has_come_get_their_files_together_and_first() {
    let login = |number: usize| Login::try_from(format!("u{number}").as_str()).unwrap();
    let full = || vec![SudoersSpec::full()];
    let logins = |due: Vec<(Login, Vec<SudoersSpec>)>| -> Vec<Login> {
        due.into_iter().map(|(login, _)| login).collect()
    };
    let mut waiting = Waiting {
        is_slow: true,
        ..Waiting::default()
    };
    let mut answers = Vec::new();
    let mut order = |waiting: &mut Waiting, number| {
        let (reply, answer) = Answer::to_come();
        waiting.add(Order::Other(Work::Write(login(number), full(), reply)));
        answers.push(answer);
    };
    // Of the first the file is there, and the third has one of before.
    (0..4).for_each(|number| order(&mut waiting, number));
    waiting.add(Order::Prepare(login(3), full()));
    waiting.add(Order::Prepare(login(4), full()));
    let due = waiting.take_due(|login| *login == "u2".try_into().unwrap());
    assert_eq!(logins(due), [0, 1, 3, 4].map(login));
    waiting.works.remove(0);
    waiting.works.remove(0);
    // Who needs no new file, or has one, is not kept waiting by those who need one.
    assert!(
        waiting
            .take_due(|login| *login == "u2".try_into().unwrap())
            .is_empty()
    );
    waiting.works.clear();
    (0..40).for_each(|number| waiting.add(Order::Prepare(login(number), full())));
    let first = logins(waiting.take_due(|_| false));
    assert_eq!(first, (0..TOGETHER).map(login).collect::<Vec<_>>());
    waiting.is_slow = false;
    assert_eq!(logins(waiting.take_due(|_| false)), [login(TOGETHER)]);
}

#[tokio::test]
async fn a_file_that_was_prepared_is_granted_when_that_is_ordered_and_not_after_a_removal() {
    let path = folder("prepared");
    let thread = SudoersThread::start(&path).unwrap();
    let zed = Login::try_from("zed").unwrap();
    let full = [SudoersSpec::full()];
    let listed = || std::fs::read_dir(&path).unwrap().count();
    thread.prepare(zed.clone(), full.to_vec());
    // Whatever is ordered is done first; by then it is seen that nothing has been granted.
    let removed = thread.remove(&zed).come().await.unwrap();
    assert_eq!((removed.unwrap(), listed()), (Removal::Absent, 0));
    thread.prepare(zed.clone(), full.to_vec());
    thread.write(&zed, &full).come().await.unwrap().unwrap();
    assert_eq!(listed(), 1);
    let removed = thread.remove(&zed).come().await.unwrap();
    assert_eq!((removed.unwrap(), listed()), (Removal::Removed, 0));
    std::fs::remove_dir_all(path).unwrap();
}

#[tokio::test]
async fn whose_file_others_have_removed_is_told_once_and_not_whose_was_ordered_away() {
    let path = folder("lost");
    let thread = SudoersThread::looking_each(Duration::from_millis(10), &path).unwrap();
    let [zed, yan] = ["zed", "yan"].map(|name| Login::try_from(name).unwrap());
    let full = [SudoersSpec::full()];
    for login in [&zed, &yan] {
        thread.write(login, &full).come().await.unwrap().unwrap();
    }
    let removed = thread.remove(&yan).come().await.unwrap();
    assert_eq!(removed.unwrap(), Removal::Removed);
    std::fs::remove_file(path.join("teleport-zed")).unwrap();
    assert_eq!(thread.lost().await, BTreeSet::from([zed.clone()]));
    thread::sleep(Duration::from_millis(100));
    assert!(thread.desk.lost().is_empty());
    // One that the daemon before this one has made.
    thread.write(&zed, &full).come().await.unwrap().unwrap();
    let next = SudoersThread::looking_each(Duration::from_millis(10), &path).unwrap();
    let keep = BTreeSet::from([zed.clone()]);
    let swept = next.sweep(keep.clone()).come().await.unwrap();
    assert_eq!(swept.unwrap().kept, keep);
    std::fs::remove_file(path.join("teleport-zed")).unwrap();
    assert_eq!(next.lost().await, keep);
    std::fs::remove_dir_all(path).unwrap();
}

#[tokio::test]
async fn whoever_orders_something_of_a_thread_that_has_ended_does_not_wait_for_it() {
    let path = folder("ended");
    let thread = SudoersThread::start(&path).unwrap();
    thread.desk.closed.store(true, Ordering::Release);
    thread.thread.unpark();
    while thread.desk.orders().is_some() {
        thread::yield_now();
    }
    let mut answer = thread.remove(&Login::try_from("zed").unwrap());
    assert!(thread.soon(&mut answer).is_none() && answer.come().await.is_none());
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn of_the_files_that_sudo_reads_ours_are_left_out_by_their_names_there_or_not() {
    let path = folder("counted");
    for name in [
        "README",
        "zz-admins",
        "teleport-admins",
        "teleport-zed",
        "teleport-yan",
    ] {
        std::fs::write(path.join(name), "# nothing\n").unwrap();
    }
    let thread = SudoersThread::start(&path).unwrap();
    let ours = ["zed", "yan", "not-there-yet"].map(|name| Login::try_from(name).unwrap());
    let until = Instant::now() + Duration::from_secs(30);
    while thread.read_by_sudo_beside(&ours) != 3 {
        assert!(
            Instant::now() < until,
            "it is looked at once the thread rests"
        );
        thread::yield_now();
    }
    // One that is to go and has not gone is read.
    assert_eq!(thread.read_by_sudo_beside(&ours[1..]), 4);
    std::fs::remove_dir_all(&path).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while thread.read_by_sudo_beside(&ours) != 0 {
        assert!(
            Instant::now() < until,
            "it is looked at again when the thread rests"
        );
        thread::yield_now();
    }
}

#[tokio::test]
async fn a_folder_that_was_replaced_is_left_alone_and_rings() {
    let path = folder("replaced");
    let thread = SudoersThread::start(&path).unwrap();
    let zed = Login::try_from("zed").unwrap();
    thread
        .write(&zed, &[SudoersSpec::full()])
        .come()
        .await
        .unwrap()
        .unwrap();
    let away = path.with_extension("away");
    std::fs::rename(&path, &away).unwrap();
    // Gone is not replaced.
    assert_eq!(
        thread.remove(&zed).come().await.unwrap().unwrap(),
        Removal::Absent
    );
    std::fs::create_dir(&path).unwrap();
    let refused = thread
        .write(&zed, &[SudoersSpec::full()])
        .come()
        .await
        .unwrap();
    assert!(matches!(refused, Err(SudoersError::Replaced(_))));
    thread.replaced().notified().await;
    assert!(!thread.look.is_taken(&zed));
    // Nothing comes back with the old one.
    assert_eq!(std::fs::read_dir(&away).unwrap().count(), 0);
    // What is to be prepared is let go of, or the thread would never rest.
    let desk = Arc::downgrade(&thread.desk);
    thread.prepare(zed, vec![SudoersSpec::full()]);
    drop(thread);
    let until = Instant::now() + Duration::from_secs(30);
    while desk.strong_count() > 0 {
        assert!(Instant::now() < until, "the thread does not end");
        thread::yield_now();
    }
    std::fs::remove_dir_all(path).unwrap();
    std::fs::remove_dir_all(away).unwrap();
}
