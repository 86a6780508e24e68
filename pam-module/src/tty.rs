//! Gives the login's terminal to its user, which the program could not: the user did not exist yet.
//! Everything happens to a descriptor, on devices root owns; a path chooses, it is never acted on twice.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, Uid};

use crate::pam;

/// Major numbers of the slave sides of pseudo terminals (Documentation/admin-guide/devices.txt).
const PTY_SLAVES: std::ops::RangeInclusive<u32> = 136..=143;

/// Major number of /dev/tty and /dev/ptmx: names for other terminals, not terminals.
const OTHER_NAMES: u32 = 5;

/// What the owner of a terminal may do with it, and the group tty: as login(1) leaves it.
const MODE: Mode = Mode::from_raw_mode(0o620);

/// Where the kernel shows what is open in this process.
const DESCRIPTORS: &str = "/proc/self/fd";

/// So many numbers are tried together, and so many at most before the kernel is asked for a list, which costs what these do.
const BLOCK: i32 = 32;
const MOST: i32 = 2 * BLOCK;

/// A terminal that was given.
#[derive(Debug)]
pub(crate) struct Given {
    /// Major and minor number, for the log.
    pub(crate) device: String,
    /// A terminal that outlives the login, such as ttyS0: a pseudo terminal goes with it.
    pub(crate) lasting: Option<Lasting>,
}

/// A terminal that has to be taken back.
#[derive(Debug)]
pub(crate) struct Lasting {
    /// As PAM_TTY named it.
    name: Vec<u8>,
    /// The device, so that nothing else of that name is taken for it.
    number: u64,
    user: u32,
    /// What it had before: a serial line is its group's, too, as long as nobody is logged in on it.
    free: Mode,
    /// The process that has given it: a copy of the PAM handle in a child must not take it back.
    process: u32,
}

/// Gives the terminal PAM_TTY names or, without one, the one open in this process to `uid`. The group stays
/// what it is. Answers which it was, None where there is none to give.
pub(crate) fn give(named: Option<&[u8]>, uid: u32) -> io::Result<Option<Given>> {
    let terminal = match named {
        Some(name) if !name.is_empty() => named_terminal(name, 0)?,
        _ => only_terminal()?,
    };
    let Some((terminal, stat)) = terminal else {
        return Ok(None);
    };
    set(&terminal, uid, MODE)?;
    let (major, minor) = device(&stat);
    let lasting = named
        .filter(|_| !PTY_SLAVES.contains(&major))
        .map(|name| Lasting {
            name: name.to_vec(),
            number: stat.st_rdev,
            user: uid,
            free: Mode::from_raw_mode(stat.st_mode),
            process: std::process::id(),
        });
    Ok(Some(Given {
        device: format!("{major}:{minor}"),
        lasting,
    }))
}

/// Makes a terminal root's again, with the mode it had, if it still is of the user it was given to: no process that the user has
/// left can open it as its owner any more. What such processes have open stays open; to end them, or to hang the terminal up, is for others.
pub(crate) fn take_back(given: &Lasting) -> io::Result<()> {
    if given.process != std::process::id() {
        return Ok(());
    }
    match named_terminal(&given.name, given.user)? {
        Some((terminal, stat)) if stat.st_rdev == given.number => set(&terminal, 0, given.free),
        _ => Ok(()),
    }
}

fn set(terminal: &OwnedFd, owner: u32, mode: Mode) -> io::Result<()> {
    let owner = Uid::from_raw(owner);
    rustix::fs::chownat(terminal, "", Some(owner), None, AtFlags::EMPTY_PATH)?;
    // The descriptor is O_PATH, which has no side effects on a device and which fchmod does not take.
    let link = format!("/proc/self/fd/{}", terminal.as_raw_fd());
    Ok(rustix::fs::chmodat(CWD, link, mode, AtFlags::empty())?)
}

/// The terminal of that name, if it is one and `owner`'s. A name is a path in /dev or relative to it.
fn named_terminal(name: &[u8], owner: u32) -> io::Result<Option<(OwnedFd, Stat)>> {
    let Ok(name) = str::from_utf8(name) else {
        return Ok(None);
    };
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    let is_terminal = match name.strip_prefix("pts/") {
        Some(number) => !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()),
        None => name.starts_with("tty") && name.bytes().all(|b| b.is_ascii_alphanumeric()),
    };
    if !is_terminal {
        return Ok(None);
    }
    let path = format!("/dev/{name}");
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&terminal)?;
    let fits = is_device_of(&stat, owner) && device(&stat).0 != OTHER_NAMES;
    Ok(fits.then_some((terminal, stat)))
}

/// The one pseudo terminal open in this process that is root's and not its controlling terminal. If there
/// are several, those beyond standard error are looked at (the standard streams may be an administrator's);
/// if there are several then, it cannot be known which, and none is given.
fn only_terminal() -> io::Result<Option<(OwnedFd, Stat)>> {
    let mut own = None;
    let mut found = BTreeMap::new();
    // Most are none, and told apart by a look.
    let looks_like_one =
        |(_, stat): &(i32, libc::stat64)| is_slave(stat.st_mode, stat.st_uid, stat.st_rdev);
    for (number, _) in descriptors()?.into_iter().filter(looks_like_one) {
        // O_PATH on the link gives the same file without opening the device; threads of the program may
        // have closed it meanwhile.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let name = format!("{DESCRIPTORS}/{number}");
        let Ok(file) = rustix::fs::open(name, flags, Mode::empty()) else {
            continue;
        };
        let stat = rustix::fs::fstat(&file)?;
        let own = match own {
            Some(own) => own,
            None => *own.insert(controlling_terminal()?),
        };
        if is_slave_of_root(&stat) && own != Some(device(&stat)) {
            // The highest descriptor of each terminal counts.
            let highest = found.entry(stat.st_rdev).or_insert((number, None));
            *highest = (highest.0.max(number), Some((file, stat)));
        }
    }
    let several = found.len() > 1;
    let mut candidates = found
        .into_values()
        .filter(|(number, _)| !several || *number > 2)
        .filter_map(|(_, terminal)| terminal);
    let first = candidates.next();
    Ok(if candidates.next().is_some() {
        None
    } else {
        first
    })
}

/// What is open in this process.
fn descriptors() -> io::Result<Vec<(i32, libc::stat64)>> {
    // So many there are, as kernels from 6.2 on say.
    let count = rustix::fs::stat(DESCRIPTORS)?.st_size;
    if let Some(open) = tried(count, pam::look) {
        return Ok(open);
    }
    let look = |number| Some((number, pam::look(number)?));
    Ok(listed()?.into_iter().filter_map(look).collect())
}

/// All `count` descriptors, where they have low numbers, as a rule: to try the first of these costs half of a list.
fn tried<T>(count: i64, look: impl Fn(i32) -> Option<T>) -> Option<Vec<(i32, T)>> {
    let look = |number| Some((number, look(number)?));
    let mut open = Vec::new();
    let mut block = 0..BLOCK;
    while count > 0 && block.start < MOST {
        // To its end: what a thread opens meanwhile must not stand for another.
        open.extend(block.clone().filter_map(look));
        if i64::try_from(open.len()).is_ok_and(|seen| seen >= count) {
            return Some(open);
        }
        block = block.end..block.end + BLOCK;
    }
    None
}

/// The numbers of all that is open in this process.
fn listed() -> io::Result<Vec<i32>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = Dir::new(rustix::fs::open(DESCRIPTORS, flags, Mode::empty())?)?;
    let mut numbers = Vec::new();
    while let Some(entry) = folder.read() {
        let entry = entry?;
        let number = entry.file_name().to_str().ok();
        numbers.extend(number.and_then(|number| number.parse::<i32>().ok()));
    }
    Ok(numbers)
}

fn is_slave_of_root(stat: &Stat) -> bool {
    is_slave(stat.st_mode, stat.st_uid, stat.st_rdev)
}

/// Whether this `mode`, owner and device number are those of the slave side of a pseudo terminal of root's.
fn is_slave(mode: u32, owner: u32, number: u64) -> bool {
    let is_device = FileType::from_raw_mode(mode) == FileType::CharacterDevice;
    is_device && owner == 0 && PTY_SLAVES.contains(&rustix::fs::major(number))
}

fn is_device_of(stat: &Stat, owner: u32) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_uid == owner
}

fn device(stat: &Stat) -> (u32, u32) {
    (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    )
}

/// Major and minor number of the controlling terminal of this process.
fn controlling_terminal() -> io::Result<Option<(u32, u32)>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    Ok(tty_number(&stat)
        .filter(|number| *number != 0)
        .map(|number| {
            (
                (number >> 8) & 0xfff,
                (number & 0xff) | ((number >> 12) & 0xf_ff00),
            )
        }))
}

/// The field tty_nr of a line of /proc/PID/stat. The second field, the command, may hold anything.
fn tty_number(stat: &str) -> Option<u32> {
    let after_command = stat.rsplit_once(')')?.1;
    let field = after_command.split_ascii_whitespace().nth(4)?;
    field.parse::<i32>().ok().map(i32::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_number_is_found_behind_any_command() {
        assert_eq!(tty_number("7 (a) 9 (b)) S 1 7 7 34817 -1 0"), Some(34817));
        assert_eq!(tty_number("7 (sh) S 1 7 7 0 -1 0"), Some(0));
        assert_eq!(tty_number("7 (sh"), None);
    }

    #[test]
    fn low_numbers_are_tried_and_others_are_left_to_a_list() {
        let tried = |numbers: &[i32], count| {
            let look = |number| numbers.contains(&number).then_some(());
            let open = tried(count, look)?.into_iter();
            Some(open.map(|(number, ())| number).collect::<Vec<_>>())
        };
        let low = [0, 1, 2, 7, BLOCK, MOST - 1];
        assert_eq!(tried(&low, 6).as_deref(), Some(&low[..]));
        // More than were counted: one of the first may have been opened since.
        assert_eq!(tried(&low, 3).as_deref(), Some(&low[..4]));
        for (numbers, count) in [(&low[..], 7), (&[0, 1, MOST], 3), (&low, 0), (&low, -1)] {
            assert_eq!(tried(numbers, count), None, "{numbers:?} of {count}");
        }
    }

    #[test]
    fn what_is_open_is_found_by_trying_and_in_the_list() {
        let file = fs::File::open("/dev/null").unwrap();
        let number = file.as_raw_fd();
        let mut open = descriptors().unwrap().into_iter();
        assert!(open.any(|(open, stat)| open == number && stat.st_rdev == libc::makedev(1, 3)));
        assert!(listed().unwrap().contains(&number));
    }

    #[test]
    fn only_names_of_terminals_are_looked_at() {
        for name in [
            "",
            ":0",
            "ssh",
            "/dev/null",
            "/etc/passwd",
            "pts/",
            "pts/../null",
            "/dev/tty",
            "ttyX/../../x",
        ] {
            let answer = named_terminal(name.as_bytes(), 0);
            assert!(matches!(answer, Ok(None)), "{name}: {answer:?}");
        }
    }
}
