//! The folder of this machine's libraries, which our modules are in: the one that this process has libc from.

use std::fs;
use std::path::{Path, PathBuf};

/// It, where it can be told.
pub(super) fn folder() -> Option<PathBuf> {
    of_libc(&fs::read_to_string("/proc/self/maps").ok()?)
}

fn of_libc(maps: &str) -> Option<PathBuf> {
    let mut libc = maps.lines().filter_map(|line| {
        let path = Path::new(line.get(line.find('/')?..)?);
        (path.file_name()? == "libc.so.6").then(|| path.parent())?
    });
    libc.next().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_where_libc_is() {
        let maps = "55d0-55d1 r--p 00000000 08:01 77 /usr/bin/teleport-userdbctl\n\
                    7f00-7f01 r--p 00000000 00:00 0\n\
                    7f10-7f11 r-xp 00028000 08:01 78 /usr/lib/x86_64-linux-gnu/libc.so.6\n";
        let folder = Some(PathBuf::from("/usr/lib/x86_64-linux-gnu"));
        assert_eq!(of_libc(maps), folder);
        assert_eq!(of_libc("7f00-7f01 r--p 00000000 00:00 0 [vdso]\n"), None);
    }
}
