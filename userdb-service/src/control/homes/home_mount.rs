//! mount(8)'s helper for the file system of ephemeral homes, type `teleport-homes`: a tmpfs of which no user can take more
//! than half, where the kernel has quotas on tmpfs, else one that all share. What is in it is for [`homes`](crate::control::homes).
//!
//! Quotas cannot be switched on by a remount, and their limits are numbers of bytes, not shares of the memory as the size
//! may be. So an instance that is mounted nowhere says how large it gets, and a second one whether the kernel takes quotas.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::statvfs::fstatvfs;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

const USAGE: &str = "usage: mount.teleport-homes WHAT WHERE [-o OPTIONS]";
/// What a drop-in of somebody who has thought of the size only would lose. What is given comes after it, and so wins.
const SAFE: &str = "nosuid,nodev,mode=0755";
/// The options that say how much fits.
const SIZES: [&str; 3] = ["size", "nr_blocks", "nr_inodes"];
/// The options of quotas begin with these; where the administrator has given some, they stay as they are.
const QUOTAS: [&str; 3] = ["quota", "usrquota", "grpquota"];

/// What mount(8) calls a helper with. It has flags besides, which mean nothing for what is never in a fstab.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    what: &'a str,
    place: &'a str,
    options: &'a str,
}

/// How much a file system holds; 0 for what nothing limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    bytes: u64,
    files: u64,
}

/// Mounts it, by becoming mount(8): a home needs no quota, so what is in the way of quotas is told and no failure.
///
/// # Errors
/// A sentence that says why nothing is mounted.
pub(in crate::control) fn run(arguments: &[&str]) -> Result<(), String> {
    let request = Request::parse(arguments).ok_or(USAGE)?;
    let options = match with_quota(request.options) {
        Ok(options) => options,
        Err(why) => {
            println!(
                "no quotas on {}, all homes share its size: {why}",
                request.place
            );
            request.options.to_owned()
        }
    };
    let mut mount = Command::new("mount");
    mount.args(["-i", "-t", "tmpfs", "-o", &safe(&options)]);
    let error = mount.args([request.what, request.place]).exec();
    Err(format!("cannot run mount: {error}"))
}

impl<'a> Request<'a> {
    fn parse(arguments: &[&'a str]) -> Option<Request<'a>> {
        let [what, place, flags @ ..] = arguments else {
            return None;
        };
        let mut options = "";
        let mut flags = flags.iter();
        while let Some(flag) = flags.next() {
            match *flag {
                "-o" => options = flags.next()?,
                "-N" | "-t" => drop(flags.next()?),
                flag if flag.starts_with('-') => {}
                _ => return None,
            }
        }
        Some(Request {
            what,
            place,
            options,
        })
    }
}

/// The options and, where that is possible, a quota; a sentence where it is not.
fn with_quota(options: &str) -> Result<String, String> {
    if given(options).any(|(key, _)| QUOTAS.iter().any(|quota| key.starts_with(quota))) {
        return Ok(options.to_owned());
    }
    let sizes: Vec<_> = given(options)
        .filter(|(key, _)| SIZES.contains(key))
        .collect();
    let room = room(&sizes).map_err(|error| format!("its size is not known: {error}"))?;
    let Some(quota) = half(room) else {
        return Err("nothing limits it".to_owned());
    };
    let sizes_and_quota = sizes.into_iter().chain(given(&quota));
    match instance(sizes_and_quota) {
        Ok(_) if options.is_empty() => Ok(quota),
        Ok(_) => Ok(format!("{options},{quota}")),
        // Its word for an option that it does not know.
        Err(Errno::INVAL) => Err("this kernel has none on tmpfs (CONFIG_TMPFS_QUOTA)".to_owned()),
        Err(error) => Err(format!("the kernel refuses them: {error}")),
    }
}

fn safe(options: &str) -> String {
    match options {
        "" => SAFE.to_owned(),
        given => format!("{SAFE},{given}"),
    }
}

/// The options one by one, those without a value with `None`.
fn given(options: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let options = options.split(',').filter(|option| !option.is_empty());
    options.map(|option| match option.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (option, None),
    })
}

/// The options that keep every user to half of it. They hold for all users but root without anybody's being told of, and
/// end with the mount. `None` if it has no limits to take the half of.
fn half(room: Room) -> Option<String> {
    let limit = |name: &str, most: u64| match most / 2 {
        0 => String::new(),
        half => format!(",usrquota_{name}_hardlimit={half}"),
    };
    let limits = limit("block", room.bytes) + &limit("inode", room.files);
    (!limits.is_empty()).then(|| format!("usrquota{limits}"))
}

/// How much a tmpfs of these options holds.
fn room(sizes: &[(&str, Option<&str>)]) -> Result<Room, Errno> {
    let instance = instance(sizes.iter().copied())?;
    let told = fstatvfs(&instance).map_err(|error| Errno::from_raw_os_error(error as i32))?;
    Ok(Room {
        bytes: told.blocks() * told.fragment_size(),
        files: told.files(),
    })
}

/// A tmpfs that is mounted nowhere, and gone when it is dropped.
fn instance<'a>(
    options: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, key, value)?,
            None => fsconfig_set_flag(&context, key)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_says_what_is_to_be_mounted_where_and_how() {
        let request = |arguments: &[&str]| Request::parse(arguments).map(|r| r.options.to_owned());
        let place = "/run/teleport-userdb/home";
        assert_eq!(
            Request::parse(&["tmpfs", place, "-o", "rw,nosuid,size=25%"]),
            Some(Request {
                what: "tmpfs",
                place,
                options: "rw,nosuid,size=25%"
            })
        );
        assert_eq!(request(&["tmpfs", place]).as_deref(), Some(""));
        let all = ["tmpfs", place, "-sv", "-N", "ns", "-t", "x.y", "-o", "ro"];
        assert_eq!(request(&all).as_deref(), Some("ro"));
        assert_eq!(request(&["tmpfs"]), None);
        assert_eq!(request(&["tmpfs", place, "-o"]), None);
        assert_eq!(request(&["tmpfs", place, "surplus"]), None);
    }

    #[test]
    fn who_says_no_more_than_a_size_gets_a_safe_mount_all_the_same() {
        assert_eq!(safe("size=1G"), "nosuid,nodev,mode=0755,size=1G");
        assert_eq!(safe(""), "nosuid,nodev,mode=0755");
    }

    #[test]
    fn a_user_gets_half_of_whatever_is_limited() {
        let quota = |bytes, files| half(Room { bytes, files });
        assert_eq!(
            quota(6_305_234_944, 1_048_576).as_deref(),
            Some("usrquota,usrquota_block_hardlimit=3152617472,usrquota_inode_hardlimit=524288")
        );
        assert_eq!(
            quota(0, 1000).as_deref(),
            Some("usrquota,usrquota_inode_hardlimit=500")
        );
        assert_eq!(
            quota(4096, 0).as_deref(),
            Some("usrquota,usrquota_block_hardlimit=2048")
        );
        assert_eq!(quota(0, 0), None);
    }

    #[test]
    fn the_kernel_says_how_large_a_share_of_the_memory_is() {
        let told = |sizes: &[(&str, Option<&str>)]| room(sizes).expect("this test needs root");
        let fixed = told(&[("size", Some("1m")), ("nr_inodes", Some("100"))]);
        assert_eq!(
            fixed,
            Room {
                bytes: 1 << 20,
                files: 100
            }
        );
        let quarter = told(&[("size", Some("25%"))]);
        let tenth = told(&[("size", Some("10%"))]);
        assert!(tenth.bytes > 0 && quarter.bytes > 2 * tenth.bytes);
        assert_eq!(told(&[("size", Some("0"))]).bytes, 0);
    }

    #[test]
    fn quotas_are_asked_for_exactly_where_mount_would_get_them() {
        let options = "rw,nosuid,mode=0755,size=8m,nr_inodes=200";
        let limits = "usrquota,usrquota_block_hardlimit=4194304,usrquota_inode_hardlimit=100";
        let mounts = |options: &str| {
            let script = format!("mount -t tmpfs -o {options} tmpfs /mnt 2>/dev/null");
            let status = Command::new("unshare")
                .args(["-m", "sh", "-c", &script])
                .status();
            status.expect("unshare is there").success()
        };
        assert!(mounts(options), "this test needs root to mount");
        match with_quota(options) {
            Ok(with) => {
                assert_eq!(with, format!("{options},{limits}"));
                assert!(mounts(&with));
            }
            Err(why) => {
                assert!(why.contains("CONFIG_TMPFS_QUOTA"), "{why}");
                assert!(!mounts("usrquota"), "the kernel has them");
            }
        }
    }

    #[test]
    fn an_administrators_own_quota_stays_as_it_is() {
        for own in [
            "size=1g,usrquota_block_hardlimit=10m",
            "quota",
            "rw,usrquota",
        ] {
            assert_eq!(with_quota(own).as_deref(), Ok(own));
        }
    }
}
