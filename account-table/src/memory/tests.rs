//! What is copied out of the table: every byte, each zero counted, nothing beyond.
//! The rest of `memory` is tested through the table.

use core::mem::MaybeUninit;

use crate::atomic::AtomicU64;
use crate::memory::{as_room, copy_out};

#[test]
fn every_length_is_copied_and_its_zeros_are_counted() {
    for zero_at in 0..70 {
        let text: Vec<u8> = (0..4096)
            .map(|at| {
                if at % 70 == zero_at {
                    0
                } else {
                    at as u8 & 0x7f | 1
                }
            })
            .collect();
        let cells: Vec<AtomicU64> = text
            .chunks(8)
            .map(|word| AtomicU64::new(u64::from_ne_bytes(word.try_into().unwrap())))
            .collect();
        for length in (0..200).chain([4095, 4096]) {
            let mut room = vec![0xee; length + 1];
            let (inside, beyond) = room.split_at_mut(length);
            let copied = copy_out(&cells, as_room(inside)).expect("ASCII");
            assert_eq!(copied.bytes, &text[..length]);
            let zeros = text[..length].iter().filter(|&&byte| byte == 0).count();
            assert_eq!(copied.zeros, zeros, "of {length} bytes");
            assert_eq!(beyond, [0xee]);
        }
    }
}

#[test]
fn what_is_not_ascii_or_not_there_is_refused_wherever_it_is() {
    for at in 0..70 {
        let mut text = [b'a'; 72];
        text[at] = 0x80;
        let cells: Vec<AtomicU64> = text
            .chunks(8)
            .map(|word| AtomicU64::new(u64::from_ne_bytes(word.try_into().unwrap())))
            .collect();
        for length in 0..=72 {
            let copied = copy_out(&cells, &mut vec![MaybeUninit::uninit(); length]).is_some();
            assert_eq!(copied, length <= at, "{at} in {length}");
        }
        assert!(copy_out(&cells, &mut [MaybeUninit::uninit(); 73]).is_none());
    }
}
