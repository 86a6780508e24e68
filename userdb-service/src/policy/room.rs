//! How many files of ours may be in sudoers.d, and how many of them for one Teleport user.
//! Who has one and what lies in the folder is counted elsewhere.

use std::fmt;

use super::quoting::escaped;
use super::sudoers::SUDOERS_D;

/// sudo-rs reads so many files and no more, in the order of their names: an administrator's last one would
/// be without effect.
const READ_BY_SUDO_RS: u32 = 128;
/// Left to others of those: for what an administrator adds, and what sudoers itself includes.
const LEFT_TO_OTHERS: u32 = 8;
/// One Teleport user holds at most this part of what there may be.
const SHARE: u32 = 4;

/// What is in sudoers.d when one more file is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Files of ours.
    pub ours: u32,
    /// Those of them that the Teleport user who wants one more has already.
    pub of_user: u32,
    /// Files that sudo reads and that are not ours. They count beside sudo-rs only.
    pub others: u32,
    /// Whether sudo-rs is on this host.
    pub sudo_rs: bool,
}

/// Why one more file cannot be made: the sentence for the person who goes without sudo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// There is room for nobody.
    Full(String),
    /// The Teleport user has as many as one may have.
    Share(String),
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (NoRoom::Full(sentence) | NoRoom::Share(sentence)) = self;
        f.write_str(sentence)
    }
}

/// May one more file be made for this Teleport user? `max_files` is the configured `sudo.max-files`.
///
/// # Errors
/// No. Who was granted one gets it when there is room again.
pub fn for_one_more(max_files: u32, room: Room, teleport_user: &str) -> Result<(), NoRoom> {
    let (most, limit) = match room.sudo_rs {
        true => {
            let read = (READ_BY_SUDO_RS - LEFT_TO_OTHERS).saturating_sub(room.others);
            (max_files.min(read), "sudo-rs reads only 128 files")
        }
        false => (max_files, "sudo.max-files"),
    };
    let limit = if most == max_files {
        "sudo.max-files"
    } else {
        limit
    };
    if room.ours >= most {
        return Err(NoRoom::Full(format!(
            "This session has no sudo rights: {SUDOERS_D} has {} files of sessions, and may have {most} ({limit}); it gets them as soon as there is room. Under sudo.mode = \"group\" there is no such bound.",
            room.ours
        )));
    }
    let share = most.div_ceil(SHARE);
    if room.of_user >= share {
        return Err(NoRoom::Share(format!(
            "This session has no sudo rights: the Teleport user {} has them on {} logins of this node already, a quarter of what there may be ({limit}); it gets them when they end on one of those.",
            escaped(teleport_user),
            room.of_user
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many files somebody gets, and how many everybody together.
    fn files(max_files: u32, others: u32, sudo_rs: bool) -> (u32, u32) {
        let (mut of_one, mut ours) = (0, 0);
        let room = |ours, of_user| Room {
            ours,
            of_user,
            others,
            sudo_rs,
        };
        while for_one_more(max_files, room(of_one, of_one), "ann").is_ok() {
            of_one += 1;
        }
        while for_one_more(max_files, room(ours, 0), "ann").is_ok() {
            ours += 1;
        }
        (of_one, ours)
    }

    #[test]
    fn there_are_as_many_files_as_configured_and_one_teleport_user_has_a_quarter() {
        assert_eq!(files(1000, 500, false), (250, 1000));
        assert_eq!(files(1, 0, false), (1, 1));
        assert_eq!(files(0, 0, false), (0, 0));
        assert_eq!(files(6, 0, false), (2, 6));
    }

    #[test]
    fn beside_sudo_rs_eight_of_the_128_that_it_reads_are_left() {
        assert_eq!(files(1000, 0, true), (30, 120));
        assert_eq!(files(1000, 20, true), (25, 100));
        assert_eq!(files(10, 20, true), (3, 10));
        assert_eq!(files(1000, 120, true), (0, 0));
        assert_eq!(files(1000, 5000, true), (0, 0));
    }

    #[test]
    fn the_sentence_says_which_limit_and_what_would_be_right() {
        let room = Room {
            ours: 119,
            of_user: 2,
            others: 1,
            sudo_rs: true,
        };
        let full = for_one_more(1000, room, "ann").expect_err("full");
        assert!(matches!(full, NoRoom::Full(_)), "{full:?}");
        let full = full.to_string();
        assert!(full.contains("128") && full.contains("\"group\""), "{full}");
        let room = Room {
            of_user: 250,
            ..Room::default()
        };
        let share = for_one_more(1000, room, "an\nn").expect_err("a quarter");
        assert!(matches!(share, NoRoom::Share(_)), "{share:?}");
        let share = share.to_string();
        assert!(share.contains("an\\nn") && share.contains("250"), "{share}");
    }
}
