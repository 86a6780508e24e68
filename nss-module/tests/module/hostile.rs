//! Things in the place of the table that are none: nobody is found, at once, without a signal and without an error.
//! What a damaged table can hold is tested where its layout is known, in account-table.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::rig::process::{found_by_five_calls, mappings_of_the_table, use_only};
use crate::rig::{alone, in_fork, spec, table_path, writer};

const USUAL: &str = "passwd: files teleport\ngroup: files teleport\n";

/// Whether a fresh process finds nobody in what stands in the table's place, quickly, and maps nothing. A loaded machine may be slow
/// once. How long the five calls took together is there to be read: `make bench-hostile`.
fn nobody_is_found_at_once_in(what: &str) -> bool {
    in_fork(|| {
        use_only(c"teleport");
        let took = (0..20).map(|_| {
            let began = Instant::now();
            let nobody = found_by_five_calls(c"alice", 54_321) == [false; 5];
            nobody.then(|| began.elapsed())
        });
        let took: Option<Vec<Duration>> = took.collect();
        let quickest = took.and_then(|took| took.into_iter().min());
        println!("{what}: {quickest:?} for five calls");
        mappings_of_the_table() == 0
            && quickest.is_some_and(|quickest| quickest < Duration::from_millis(5))
    })
}

#[track_caller]
fn find_nobody_in(what: &str) {
    assert!(nobody_is_found_at_once_in(what), "{what}");
}

#[test]
fn what_is_no_table_of_roots_is_not_found_in_less_than_a_millisecond_a_call() {
    alone(USUAL, &[], || {
        drop(writer().publish(&spec("alice", 54_321)));
        let (path, good) = (table_path(), fs::read(table_path()).unwrap());
        assert!(!nobody_is_found_at_once_in("a good table"));
        let put = |bytes: &[u8]| {
            let _ = fs::remove_dir(path);
            let _ = fs::remove_file(path);
            fs::write(path, bytes).unwrap();
        };
        let mut longer = good.clone();
        longer.push(0);
        let contents: [&[u8]; 7] = [
            b"",
            b"t",
            &vec![0xff; good.len()],
            &vec![0; good.len()],
            &good[..good.len() - 1],
            &good[..4096],
            &longer,
        ];
        for content in contents {
            put(content);
            find_nobody_in(&format!("{} bytes", content.len()));
        }
        put(&good);
        chown(path, Some(65_534), None).unwrap();
        find_nobody_in("somebody else's");
        for mode in [0o664, 0o646, 0o666] {
            put(&good);
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            find_nobody_in(&format!("mode {mode:o}"));
        }
        put(b"");
        fs::OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        find_nobody_in("a sparse gigabyte");
        put(&good);
        fs::rename(path, "/run/teleport-userdb/moved").unwrap();
        symlink("moved", path).unwrap();
        find_nobody_in("a symbolic link");
        fs::remove_file(path).unwrap();
        symlink("accounts", path).unwrap();
        find_nobody_in("a link to itself");
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        find_nobody_in("a folder");
        fs::remove_dir(path).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        find_nobody_in("a FIFO");
        put(&good);
        assert!(!nobody_is_found_at_once_in("the good table again"));
    });
}
