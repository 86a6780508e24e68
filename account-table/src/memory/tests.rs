//! What is copied out of the table: every byte, each zero counted, zeros up to the next step and nothing beyond.
//! The rest of `memory` is tested through the table.

use core::mem::MaybeUninit;

use crate::atomic::AtomicU64;
use crate::memory::{STEP, as_room, copy_out};

fn cells_of(text: &[u8]) -> Vec<AtomicU64> {
    text.chunks(8)
        .map(|word| AtomicU64::new(u64::from_ne_bytes(word.try_into().unwrap())))
        .collect()
}

#[test]
fn every_length_is_copied_and_what_is_neither_zero_nor_beyond_ascii_is_counted() {
    let text: Vec<u8> = (0..4096usize).map(|at| (at * 31 % 251) as u8).collect();
    let cells = cells_of(&text);
    for length in (1..300usize).chain([4079, 4080]) {
        let taken = length.next_multiple_of(STEP);
        let mut room = vec![0xee; taken + 1];
        let copied = copy_out(&cells, length, as_room(&mut room)).expect("room");
        assert_eq!(copied.bytes, &text[..length]);
        let letters = text[..length]
            .iter()
            .filter(|&&byte| (1..0x80).contains(&byte));
        assert_eq!(copied.letters, letters.count(), "of {length} bytes");
        assert!(room[length..taken].iter().all(|&byte| byte == 0));
        assert_eq!(room[taken], 0xee);
    }
}

#[test]
fn as_many_letters_as_a_record_can_hold_are_counted_without_an_overflow() {
    let cells = cells_of(&[b'a'; 4096]);
    let mut room = [MaybeUninit::uninit(); 4096];
    for length in [4064, 4079, 4080] {
        let copied = copy_out(&cells, length, &mut room).expect("room");
        assert_eq!(copied.letters, length);
    }
}

#[test]
fn what_is_not_there_or_has_no_room_is_refused() {
    let cells = cells_of(&[b'a'; 72]);
    let copied = |length: usize, room: usize| {
        copy_out(&cells, length, &mut vec![MaybeUninit::uninit(); room]).is_some()
    };
    assert!(copied(64, 64) && copied(49, 64) && copied(1, 16));
    assert!(!copied(65, 80), "ten words of nine");
    assert!(!copied(64, 63) && !copied(49, 63) && !copied(1, 15));
    assert!(!copied(0, 16) && !copied(4081, 4096) && !copied(usize::MAX, 16));
}

#[test]
fn a_namespace_without_root_is_told_by_its_map() {
    let is_without = |map: &str| super::namespace::has_none_of(map.as_bytes(), [0, 65_534]);
    let line = |first: u32, count: u32| format!("{first:>10} {:>10} {count:>10}\n", 0);
    assert!(is_without(&line(1000, 1)));
    assert!(is_without(
        &(line(1, 65_533) + &line(65_535, 4_294_901_760))
    ));
    for with in [
        line(0, 1),
        line(0, u32::MAX),
        line(65_534, 1),
        line(1, 65_534),
        line(u32::MAX, 1) + &line(65_000, 1000),
        line(1000, 1) + &line(0, 1),
    ] {
        assert!(!is_without(&with), "{with}");
    }
    for unsound in [
        "",
        "\n",
        "1000 1000\n",
        "1000 1000 1",
        "1000 1000 1 1\n",
        "1000 1000 4294967296\n",
        "1000 1000 -1\n",
        "1000 1000 1\n\n",
    ] {
        assert!(!is_without(unsound), "{unsound:?}");
    }
}

#[cfg(feature = "writer")]
#[test]
fn what_a_signal_ends_is_called_again_and_any_other_error_is_told() {
    let called = |errors: &[i32]| {
        let mut errors = errors.iter();
        super::writable::called_until_done(|| {
            let Some(error) = errors.next() else {
                return 0;
            };
            // SAFETY: __errno_location always returns the calling thread's valid errno.
            unsafe { *libc::__errno_location() = *error };
            -1
        })
    };
    assert!(called(&[]).is_ok());
    assert!(called(&[libc::EINTR, libc::EINTR]).is_ok());
    let error = called(&[libc::EINTR, libc::ENOSPC]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
}
