//! Persistent homes, on a disk or a server that may be slow or gone: looked at and made on a thread beside the daemon's,
//! and waited for only so long. Each is marked with the Teleport user it was made for.
//!
//! The mark is a file that root alone can write, `BASE/.teleport-userdb/LOGIN`: in the home itself, its user could
//! change it, and so leave a `.bashrc` to whoever is next under the same login.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use serde_derive::{Deserialize, Serialize};
use tokio::runtime::Builder;
use tokio::time::Instant;

use super::making::{NewHome, fill, name_of_attempt};
use super::{HomeError, Homes, Provided, Tenant, begun_for, is_home_of};
use crate::control::end::janitor::Janitor;
use crate::control::host::blocking_pool::BlockingPool;
use crate::policy::names::Login;

/// The folder of the marks.
const MARKS: &str = ".teleport-userdb";
/// How long one may take to remove what others have begun, until it counts among those that do not answer.
const LONGEST: Duration = Duration::from_secs(60);
/// When all wait for a disk that does not answer, nobody is sent after them.
static THREADS: BlockingPool = BlockingPool::new(16);
/// What copies the skeleton into them. Others than those above: where it is the skeleton that hangs, homes do not.
static COPYING: BlockingPool = BlockingPool::new(4);

#[derive(Serialize, Deserialize)]
struct Mark {
    teleport_user: String,
}

/// A mark that is being written, in a file of this attempt's own: one whose thread wakes late writes into no other's.
struct NewMark {
    name: String,
    file: File,
}

/// What was found on the first visit.
enum Found {
    Present,
    /// A home without a name yet, for the skeleton.
    New(Homes, NewHome),
}

impl Homes {
    /// Gives a tenant a persistent home in `base`, `by` then. One that belongs to somebody else is left alone.
    ///
    /// # Errors
    /// There is none, it is somebody else's, or the disk does not answer in time.
    pub async fn provide_persistent(
        base: &Path,
        janitor: Janitor,
        tenant: &Tenant<'_>,
        by: Instant,
    ) -> Result<Provided, HomeError> {
        let found = on_a_thread(base, tenant, by, {
            let base = base.to_owned();
            move |tenant, wanted| Homes::open(base, janitor)?.find_persistent(tenant, wanted)
        })
        .await?;
        let Found::New(homes, home) = found else {
            return Ok(Provided::Present);
        };
        let home = fill(&COPYING, tenant, home, by).await;
        let homes = on_a_thread(base, tenant, by, move |tenant, wanted| {
            let home = match home {
                Some(home) => home,
                None => {
                    homes.forget_attempts(tenant.login, wanted)?;
                    homes.begin(tenant, name_of_attempt(tenant.login))?
                }
            };
            homes.mark(tenant, wanted)?;
            homes.finish(tenant, home)?;
            Ok(homes)
        })
        .await?;
        homes.remove_interrupted();
        Ok(Provided::Fresh)
    }

    /// Removes what attempts that were interrupted have left in the trash. Nobody waits for it.
    fn remove_interrupted(self) {
        /// However slowly homes are emptied, others are made.
        static EMPTYING: BlockingPool = BlockingPool::new(1);
        tokio::spawn(EMPTYING.run(LONGEST, move |_| {
            // On an event loop of its own: the daemon's may be shut down meanwhile, and who waits by its timers panics then.
            let runtime = Builder::new_current_thread().enable_all().build();
            let emptied = match runtime {
                Ok(runtime) => runtime.block_on(self.empty_trash()),
                Err(error) => Err(self.io("waiting for a janitor in", ".", error)),
            };
            if let Err(error) = emptied {
                tracing::error!("cannot remove what was begun of a home: {error}");
            }
        }));
    }

    fn find_persistent(
        self,
        tenant: &Tenant<'_>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Found, HomeError> {
        if self.has_persistent(tenant, wanted)? {
            return Ok(Found::Present);
        }
        self.forget_attempts(tenant.login, wanted)?;
        // One that nobody waited for may have named its home before that.
        if self.has_persistent(tenant, wanted)? {
            return Ok(Found::Present);
        }
        let home = self.begin(tenant, name_of_attempt(tenant.login))?;
        Ok(Found::New(self, home))
    }

    /// Whether the tenant has a home, which has its mark then.
    fn has_persistent(
        &self,
        tenant: &Tenant<'_>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<bool, HomeError> {
        let name: &str = tenant.login.as_ref();
        match self.stat(name)? {
            None => return Ok(false),
            Some(seen) if is_home_of(&seen, tenant.uid) => {}
            Some(seen) => {
                return Err(HomeError::NotTheirs {
                    path: self.path.join(name),
                    owner: seen.uid,
                });
            }
        }
        match self.marked(name)? {
            Some(mark) if mark.teleport_user == tenant.teleport_user => {}
            Some(_) => return Err(HomeError::OfAnother(self.path.join(name))),
            // It was there before us: whose it is says its owner, from now on with a name.
            None => self.mark(tenant, wanted)?,
        }
        Ok(true)
    }

    /// Throws away what earlier attempts have begun for `login`: a crash has left it, or nobody waits for it any more. Who is late
    /// himself must not throw away what somebody has begun since.
    fn forget_attempts(&self, login: &Login, wanted: &dyn Fn() -> bool) -> Result<(), HomeError> {
        for name in self.names()? {
            if !wanted() {
                return Err(HomeError::TooSlow(self.path.clone()));
            }
            if begun_for(&name) == Some(login.as_ref()) {
                self.throw_away(&name)?;
            }
        }
        Ok(())
    }

    /// Whose the home of `name` is. One whose mark cannot be read is nobody's.
    fn marked(&self, name: &str) -> Result<Option<Mark>, HomeError> {
        let marks = self.marks()?;
        let failed = |e: io::Error| marks.io("reading", name, e);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(&marks.folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(failed(e.into())),
        };
        let mut text = Vec::new();
        File::from(file)
            .take(4096)
            .read_to_end(&mut text)
            .map_err(failed)?;
        // What exactly is wrong with it helps nobody who reads this.
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|_| HomeError::Io {
                what: format!(
                    "{} does not say whose {} is",
                    marks.path.join(name).display(),
                    self.path.join(name).display()
                ),
                error: io::Error::other(
                    "right is {\"teleport_user\":\"NAME\"}, the Teleport user; without the file the home is whose comes first",
                ),
            })
    }

    /// Says whose it is, before it has its name: on disk before anything else, or after a power cut it would be
    /// whoever's comes first.
    fn mark(&self, tenant: &Tenant<'_>, wanted: &dyn Fn() -> bool) -> Result<(), HomeError> {
        let marks = self.marks()?;
        marks.forget_attempts(tenant.login, wanted)?;
        let failed = |e: io::Error| self.io("marking", tenant.login.as_ref(), e);
        let new = NewMark::begin(&marks.folder, tenant.login).map_err(failed)?;
        let mark = Mark {
            teleport_user: tenant.teleport_user.to_owned(),
        };
        new.finish(&marks.folder, tenant.login, &mark, wanted)
            .map_err(failed)
    }

    fn marks(&self) -> Result<Homes, HomeError> {
        match mkdirat(&self.folder, MARKS, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(self.io("making", MARKS, e)),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = openat(&self.folder, MARKS, flags, Mode::empty())
            .map_err(|e| self.io("opening", MARKS, e))?;
        let homes = Homes {
            path: self.path.join(MARKS),
            folder,
            janitor: self.janitor.clone(),
            has_thrown_away: Cell::default(),
        };
        homes.must_be_roots().map(|()| homes)
    }
}

impl NewMark {
    fn begin(marks: &OwnedFd, login: &Login) -> io::Result<NewMark> {
        let name = name_of_attempt(login);
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(marks, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let file = File::from(file);
        Ok(NewMark { name, file })
    }

    fn finish(
        mut self,
        marks: &OwnedFd,
        login: &Login,
        mark: &Mark,
        wanted: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        let named = self.write(mark).and_then(|()| {
            if !wanted() {
                // Meanwhile the home may have been made for another.
                return Err(io::ErrorKind::TimedOut.into());
            }
            Ok(renameat(marks, self.name.as_str(), marks, login.as_ref())?)
        });
        if let Err(error) = named {
            let _ = unlinkat(marks, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
            return Err(error);
        }
        Ok(fsync(marks)?)
    }

    fn write(&mut self, mark: &Mark) -> io::Result<()> {
        self.file.write_all(&serde_json::to_vec(mark)?)?;
        self.file.sync_all()
    }
}

/// Does a piece of work that may wait for a disk, for a while.
async fn on_a_thread<T: Send + 'static>(
    base: &Path,
    tenant: &Tenant<'_>,
    by: Instant,
    work: impl FnOnce(&Tenant<'_>, &dyn Fn() -> bool) -> Result<T, HomeError> + Send + 'static,
) -> Result<T, HomeError> {
    let (login, uid, gid) = (tenant.login.clone(), tenant.uid, tenant.gid);
    let teleport_user = tenant.teleport_user.to_owned();
    let left = by.saturating_duration_since(Instant::now());
    let done = THREADS.run(left, move |wanted| {
        let tenant = Tenant {
            login: &login,
            uid,
            gid,
            teleport_user: &teleport_user,
        };
        work(&tenant, wanted)
    });
    done.await
        .unwrap_or_else(|| Err(HomeError::TooSlow(base.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ids::Uid;
    use std::path::PathBuf;

    /// An empty folder of homes.
    struct Bench(PathBuf);

    impl Bench {
        fn new(name: &str) -> Bench {
            let base =
                std::env::temp_dir().join(format!("persistent-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&base);
            std::fs::create_dir_all(&base).unwrap();
            Bench(base)
        }

        fn homes(&self) -> Homes {
            Homes::open(&self.0, Janitor::default()).expect("this test needs root")
        }

        async fn provide(&self, within: Duration) -> Result<Provided, HomeError> {
            let (login, by) = (zed(), Instant::now() + within);
            let tenant = tenant(&login, "ann");
            let provided =
                Homes::provide_persistent(&self.0, Janitor::default(), &tenant, by).await;
            assert!(Instant::now() < by + MORE, "it was waited for for longer");
            provided
        }

        fn marks(&self) -> Vec<String> {
            let mut names = self.homes().marks().unwrap().names().unwrap();
            names.retain(|name| name != "." && name != "..");
            names
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// What a loaded machine may add.
    const MORE: Duration = Duration::from_millis(900);

    fn zed() -> Login {
        Login::try_from("zed").unwrap()
    }

    fn tenant<'a>(login: &'a Login, teleport_user: &'a str) -> Tenant<'a> {
        let uid = Uid::try_from(0x7000_0205).unwrap();
        Tenant {
            login,
            uid,
            gid: uid.into(),
            teleport_user,
        }
    }

    #[test]
    fn who_comes_late_neither_takes_away_what_was_begun_since_nor_names_what_is_not_its_own() {
        let bench = Bench::new("late");
        let (homes, login) = (bench.homes(), zed());
        let (ann, bea) = (tenant(&login, "ann"), tenant(&login, "bea"));
        let begin = |tenant: &Tenant<'_>, wanted: bool| match bench
            .homes()
            .find_persistent(tenant, &|| wanted)
        {
            Ok(Found::New(_, home)) => Ok(home),
            Ok(Found::Present) => panic!("there is no home"),
            Err(error) => Err(error),
        };
        // As somebody who is given up, and wakes right before the last step.
        let late = begin(&ann, true).unwrap();
        let begun = begin(&bea, true).unwrap();
        assert!(matches!(begin(&ann, false), Err(HomeError::TooSlow(_))));
        assert!(homes.finish(&ann, late).is_err());
        assert_eq!(homes.stat("zed").unwrap(), None);
        homes.mark(&bea, &|| true).unwrap();
        homes.finish(&bea, begun).unwrap();
        assert!(homes.has_persistent(&bea, &|| true).unwrap());
    }

    #[test]
    fn a_home_that_a_late_one_has_named_is_found() {
        let bench = Bench::new("named");
        let (homes, login) = (bench.homes(), zed());
        let ann = tenant(&login, "ann");
        let Ok(Found::New(_, home)) = bench.homes().find_persistent(&ann, &|| true) else {
            panic!("there is no home");
        };
        homes.mark(&ann, &|| true).unwrap();
        // It was not there at the first look.
        let home = Cell::new(Some(home));
        let late = || {
            home.take()
                .is_none_or(|home| homes.finish(&ann, home).is_ok())
        };
        let found = bench.homes().find_persistent(&ann, &late);
        assert!(matches!(found, Ok(Found::Present)));
    }

    #[test]
    fn each_attempt_at_a_mark_writes_into_a_file_of_its_own_and_leaves_none() {
        let bench = Bench::new("marks");
        let (homes, login) = (bench.homes(), zed());
        let mark = |user: &str| Mark {
            teleport_user: user.to_owned(),
        };
        let marked = || homes.marked("zed").unwrap().unwrap().teleport_user;
        let marks = homes.marks().unwrap();
        let begin = || NewMark::begin(&marks.folder, &login).unwrap();
        let finish = |new: NewMark, user: &str, wanted: bool| {
            new.finish(&marks.folder, &login, &mark(user), &|| wanted)
        };
        // One is given up when it has been opened, one when it is about to get its name; then comes the next.
        let (mut opened, written) = (begin(), begin());
        marks.forget_attempts(&login, &|| true).unwrap();
        let begun = begin();
        let late = finish(written, "ann", true);
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::NotFound);
        finish(begun, "bea", true).unwrap();
        opened.write(&mark("ann")).unwrap();
        assert_eq!(marked(), "bea");
        // One that is late and after which nobody has come takes its own away.
        assert!(finish(begin(), "ann", false).is_err());
        assert_eq!(
            (marked().as_str(), bench.marks()),
            ("bea", vec!["zed".to_owned()])
        );
        // What a crash has left, of this daemon's attempts and of one that had a single name for all.
        drop(begin());
        for name in [".new-zed", ".new-zeda~1.1"] {
            std::fs::write(bench.0.join(MARKS).join(name), "{").unwrap();
        }
        homes.mark(&tenant(&login, "cid"), &|| true).unwrap();
        assert_eq!(marked(), "cid");
        let mut left = bench.marks();
        left.sort();
        assert_eq!(left, [".new-zeda~1.1", "zed"]);
    }

    #[tokio::test]
    async fn a_mark_that_is_damaged_is_named_with_what_is_right() {
        let bench = Bench::new("damaged");
        let within = Duration::from_secs(10);
        bench.provide(within).await.unwrap();
        let path = bench.0.join(MARKS).join("zed");
        for damaged in [&b""[..], b"\xff", b"{}"] {
            std::fs::write(&path, damaged).unwrap();
            let told = bench.provide(within).await.unwrap_err().to_string();
            let (mark, home) = (path.display(), bench.0.join("zed"));
            let begin = format!(
                "{mark} does not say whose {} is: right is {{",
                home.display()
            );
            assert!(told.starts_with(&begin), "{told}");
        }
    }

    #[tokio::test]
    async fn all_steps_of_a_home_share_the_time_there_is() {
        let bench = Bench::new("time");
        let hung = COPYING.hang().await;
        // The skeleton does not answer, and there is time to make one without.
        let provided = bench.provide(Duration::from_secs(2)).await;
        assert_eq!(provided.unwrap(), Provided::Fresh);
        assert_eq!(std::fs::read_dir(bench.0.join("zed")).unwrap().count(), 0);
        drop(hung);
        std::fs::remove_dir_all(bench.0.join("zed")).unwrap();
        let hung = THREADS.hang().await;
        let refused = bench.provide(Duration::from_millis(200)).await;
        assert!(matches!(refused, Err(HomeError::TooSlow(_))));
        drop(hung);
    }
}
