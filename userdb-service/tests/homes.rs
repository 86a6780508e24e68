//! Homes in a real folder, with the real janitor. Needs root.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use userdb_service::control::end::janitor::Janitor;
use userdb_service::control::homes::{HomeError, Homes, Provided, Tenant};
use userdb_service::policy::ids::Uid;
use userdb_service::policy::names::Login;

/// How long homes are kept here.
const KEEP: Duration = Duration::from_secs(600);

struct Bench {
    path: PathBuf,
    login: Login,
}

impl Bench {
    fn new(name: &str) -> Bench {
        Bench::new_or_old(name, true)
    }

    fn new_or_old(name: &str, new: bool) -> Bench {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root to give homes away"
        );
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("homes-{name}"));
        if new {
            let _ = std::fs::remove_dir_all(&path);
        }
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        Bench {
            path,
            login: Login::try_from("zed").unwrap(),
        }
    }

    fn homes(&self) -> Homes {
        let program = env!("CARGO_BIN_EXE_teleport-sessiond").into();
        Homes::open(&self.path, Janitor { program }).unwrap()
    }

    fn tenant<'a>(&'a self, teleport_user: &'a str) -> Tenant<'a> {
        let uid = Uid::try_from(0x7000_0201).unwrap();
        Tenant {
            login: &self.login,
            uid,
            gid: uid.into(),
            teleport_user,
        }
    }

    async fn provide(&self, user: &str) -> Result<Provided, HomeError> {
        self.homes().provide(&self.tenant(user), in_time()).await
    }

    async fn provide_persistent(&self, user: &str) -> Result<Provided, HomeError> {
        let program = env!("CARGO_BIN_EXE_teleport-sessiond").into();
        Homes::provide_persistent(
            &self.path,
            Janitor { program },
            &self.tenant(user),
            in_time(),
        )
        .await
    }

    fn home(&self) -> PathBuf {
        self.path.join("zed")
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.path).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            // It stays once there has been a need for it.
            .filter(|name| name != ".trash" || self.path.join(name).read_dir().unwrap().count() > 0)
            .collect();
        names.sort();
        names
    }

    /// Leaves a file of the user in the home.
    fn leave(&self, file: &str) {
        std::fs::write(self.home().join(file), "x").unwrap();
        chown(self.home().join(file), Some(0x7000_0201), Some(0x7000_0201)).unwrap();
    }
}

/// When a home is to be there: on a loaded machine, too.
fn in_time() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

#[tokio::test]
async fn a_new_home_belongs_to_its_user_alone_and_has_the_skeleton() {
    let bench = Bench::new("fresh");
    let provided = bench.provide("ann").await.unwrap();
    assert_eq!(provided, Provided::Fresh);
    let metadata = bench.home().metadata().unwrap();
    assert_eq!(
        (mode(&bench.home()), metadata.uid(), metadata.gid()),
        (0o700, 0x7000_0201, 0x7000_0201)
    );
    let skeleton = std::fs::read_dir("/etc/skel").unwrap().count();
    let copied: Vec<_> = std::fs::read_dir(bench.home()).unwrap().collect();
    assert_eq!(copied.len(), skeleton);
    for entry in copied {
        let metadata = entry.unwrap().metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (0x7000_0201, 0x7000_0201));
    }
    assert_eq!(bench.names(), ["zed"]);
    let homes = bench.homes();
    let again = homes.provide_again(&bench.tenant("ann"), in_time()).await;
    assert_eq!(again.unwrap(), Provided::Present);
    // Once there are spares, who comes and goes on leaves nothing to tidy up; who comes anew does.
    homes.keep_spares();
    assert!(!homes.is_untidy());
    homes
        .provide(&bench.tenant("ann"), in_time())
        .await
        .unwrap();
    assert!(homes.is_untidy());
}

#[tokio::test]
async fn a_home_that_outlived_its_user_is_given_to_nobody_who_comes_anew() {
    let bench = Bench::new("outlived");
    bench.provide("ann").await.unwrap();
    std::fs::write(bench.home().join("secret"), "of ann").unwrap();
    // Neither kept nor evicted: the daemon was killed, or the file system was full.
    let next = bench.provide("eve").await;
    assert_eq!(next.unwrap(), Provided::Fresh);
    assert!(!bench.home().join("secret").exists());
}

#[tokio::test]
async fn the_same_teleport_user_finds_the_home_again_and_nobody_reaches_it_meanwhile() {
    let bench = Bench::new("kept");
    bench.provide("ann").await.unwrap();
    bench.leave("work");
    // Whatever the user made of the mode, the home can be kept.
    std::fs::set_permissions(bench.home(), PermissionsExt::from_mode(0o055)).unwrap();
    assert!(bench.homes().keep(&bench.tenant("ann"), KEEP).unwrap());
    assert_eq!(bench.names(), [".kept-zed"]);
    let kept = bench.path.join(".kept-zed");
    assert_eq!((mode(&kept), kept.metadata().unwrap().uid()), (0o700, 0));
    assert_eq!(bench.homes().kept().unwrap()[0].login, bench.login);
    assert!(bench.homes().kept().unwrap()[0].rest > KEEP - Duration::from_secs(60));
    assert_eq!(bench.provide("ann").await.unwrap(), Provided::Kept);
    assert!(bench.home().join("work").exists());
    assert_eq!(bench.home().metadata().unwrap().uid(), 0x7000_0201);
    assert_eq!(bench.names(), ["zed"]);
}

#[tokio::test]
async fn another_teleport_user_gets_a_new_home_and_the_old_one_is_emptied() {
    let bench = Bench::new("other");
    bench.provide("ann").await.unwrap();
    bench.leave("secret");
    bench.homes().keep(&bench.tenant("ann"), KEEP).unwrap();
    assert_eq!(bench.provide("bea").await.unwrap(), Provided::Fresh);
    assert!(!bench.home().join("secret").exists());
    assert_eq!(bench.names(), [".trash", "zed"]);
    // They have the same UID: nothing but root's own folder keeps the one from what the other left.
    let trash = bench.path.join(".trash").metadata().unwrap();
    assert_eq!((trash.uid(), trash.mode() & 0o777), (0, 0o700));
    let old = bench.path.join(".trash/0");
    assert_eq!(old.metadata().unwrap().uid(), 0x7000_0201);
    assert!(old.join("secret").exists());
    bench.homes().empty_trash().await.unwrap();
    assert_eq!(bench.names(), ["zed"]);
    assert!(!old.exists());
}

#[tokio::test]
async fn what_root_made_in_a_home_does_not_keep_it_from_being_removed() {
    let bench = Bench::new("roots");
    bench.provide("ann").await.unwrap();
    std::fs::create_dir_all(bench.home().join("made/by/sudo")).unwrap();
    bench.homes().keep(&bench.tenant("ann"), KEEP).unwrap();
    assert!(bench.homes().discard(&bench.login).unwrap());
    assert!(!bench.homes().discard(&bench.login).unwrap());
    bench.homes().empty_trash().await.unwrap();
    assert!(bench.names().is_empty());
}

#[tokio::test]
async fn a_start_keeps_the_homes_of_the_living_and_the_waiting_and_nothing_half_made() {
    let bench = Bench::new("sweep");
    bench.provide("ann").await.unwrap();
    bench.homes().keep(&bench.tenant("ann"), KEEP).unwrap();
    for name in ["live", "dead", ".new-half", ".new-zed~7.1", ".kept-half"] {
        std::fs::create_dir(bench.path.join(name)).unwrap();
    }
    // As a daemon that was killed has left it: root's, with what is its tenant's already and what is not.
    let half = bench.path.join(".new-half");
    std::fs::create_dir_all(half.join("finished/deeper")).unwrap();
    for name in ["finished/deeper/file", "finished/file", "begun"] {
        std::fs::write(half.join(name), "x").unwrap();
    }
    for name in [
        "finished/deeper/file",
        "finished/deeper",
        "finished/file",
        "finished",
    ] {
        chown(half.join(name), Some(0x7000_0201), Some(0x7000_0201)).unwrap();
    }
    let live = BTreeSet::from([Login::try_from("live").unwrap()]);
    bench.homes().sweep(&live).unwrap();
    bench.homes().empty_trash().await.unwrap();
    assert_eq!(bench.names(), [".kept-zed", "live"]);
}

#[tokio::test]
async fn a_persistent_home_is_its_teleport_users_for_good() {
    let bench = Bench::new("persistent");
    let provide = |user: &'static str| bench.provide_persistent(user);
    assert_eq!(provide("ann").await.unwrap(), Provided::Fresh);
    assert_eq!(provide("ann").await.unwrap(), Provided::Present);
    let refused = provide("bea").await.unwrap_err();
    assert!(matches!(refused, HomeError::OfAnother(_)), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        format!(
            "{} is of another Teleport user: left alone",
            bench.home().display()
        )
    );
    // What its user may write says nothing of whose it is.
    bench.leave(".teleport-userdb");
    assert!(provide("bea").await.is_err());
    // Gone with the home, whoever has removed it.
    std::fs::remove_dir_all(bench.home()).unwrap();
    assert_eq!(provide("bea").await.unwrap(), Provided::Fresh);
    assert!(provide("ann").await.is_err());
    assert_eq!(mode(&bench.path.join(".teleport-userdb")), 0o700);
    // A mark that is not whole is nobody's.
    std::fs::write(bench.path.join(".teleport-userdb/zed"), "").unwrap();
    assert!(provide("bea").await.is_err());
    // A home that was there before us is the first one's.
    std::fs::remove_file(bench.path.join(".teleport-userdb/zed")).unwrap();
    assert_eq!(provide("ann").await.unwrap(), Provided::Present);
    assert!(provide("bea").await.is_err());
}

#[tokio::test]
async fn a_persistent_home_that_was_interrupted_leaves_nothing_once_it_is_there() {
    let bench = Bench::new("interrupted");
    // Whichever daemon began it.
    let begun = [".new-zed", ".new-zed~7.1"].map(|name| bench.path.join(name));
    for begun in &begun {
        std::fs::create_dir(begun).unwrap();
        std::fs::write(begun.join("half a skeleton"), "x").unwrap();
        chown(begun, Some(0x7000_0201), None).unwrap();
    }
    let provided = bench.provide_persistent("ann").await.unwrap();
    assert_eq!(provided, Provided::Fresh);
    assert!(!begun.iter().any(|begun| begun.exists()));
    let trash = bench.path.join(".trash");
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while std::fs::read_dir(&trash).unwrap().next().is_some() {
        assert!(std::time::Instant::now() < until, "the trash stays full");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn what_was_interrupted_is_removed_though_the_event_loop_is_shut_down_meanwhile() {
    let bench = Bench::new("shut-down");
    let begun = bench.path.join(".new-zed");
    std::fs::create_dir(&begun).unwrap();
    std::fs::write(begun.join("half a skeleton"), "x").unwrap();
    // So that it is still at work then.
    let program = bench.path.join("janitor");
    let script = format!(
        "#!/bin/sh\nsleep 1; exec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_teleport-sessiond")
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (tenant, janitor) = (bench.tenant("ann"), Janitor { program });
        let provided = Homes::provide_persistent(&bench.path, janitor, &tenant, in_time()).await;
        assert_eq!(provided.unwrap(), Provided::Fresh);
        tokio::time::sleep(Duration::from_millis(300)).await;
    });
    runtime.shutdown_background();
    let trash = bench.path.join(".trash");
    assert!(std::fs::read_dir(&trash).unwrap().next().is_some());
    let until = Instant::now() + Duration::from_secs(10);
    while std::fs::read_dir(&trash).unwrap().next().is_some() {
        assert!(Instant::now() < until, "who was at it has ended");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_persistent_home_that_others_own_is_left_alone() {
    let bench = Bench::new("others");
    bench.provide_persistent("ann").await.unwrap();
    chown(bench.home(), Some(0x7000_0299), None).unwrap();
    let refused = bench.provide_persistent("ann").await;
    assert!(
        matches!(
            refused,
            Err(HomeError::NotTheirs {
                owner: 0x7000_0299,
                ..
            })
        ),
        "{refused:?}"
    );
    std::fs::remove_dir_all(bench.home()).unwrap();
    symlink("/etc", bench.home()).unwrap();
    let refused = bench.provide_persistent("ann").await;
    assert!(
        matches!(refused, Err(HomeError::NotTheirs { owner: 0, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_ephemeral_home_that_is_a_link_is_thrown_away_and_not_followed() {
    let bench = Bench::new("link");
    let elsewhere = bench.path.with_extension("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("precious"), "x").unwrap();
    symlink(&elsewhere, bench.home()).unwrap();
    assert_eq!(bench.provide("ann").await.unwrap(), Provided::Fresh);
    bench.homes().empty_trash().await.unwrap();
    assert_eq!(bench.names(), ["zed"]);
    assert!(elsewhere.join("precious").exists());
}

#[tokio::test]
async fn on_a_full_file_system_there_is_a_home_for_the_next_all_the_same() {
    let bench = Bench::new("full");
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(&bench.path)
            .status();
        assert!(done.unwrap().success(), "this test needs root to mount");
    };
    mount(&[
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=64k,nr_inodes=400,mode=0755",
        "tmpfs",
    ]);
    let homes = bench.homes();
    homes.empty_trash().await.unwrap();
    homes.keep_spares();
    let filled =
        (0..).find(|n| std::fs::write(bench.path.join(format!("{n}")), [1; 4096]).is_err());
    let no_room = std::fs::create_dir(bench.path.join("x")).is_err()
        || (0..).any(|n| std::fs::create_dir(bench.path.join(format!("x{n}"))).is_err());
    assert!(filled.is_some() && no_room && !homes.has_room());
    let provided = bench.provide("ann").await;
    let owner = bench.home().metadata().map(|home| home.uid());
    // And it ends, though nothing can be kept. Whoever fills it takes the room of each home that goes; for a long while there
    // is one for the next all the same.
    let kept = homes.keep(&bench.tenant("ann"), Duration::from_secs(1));
    let evicted = homes.evict(&bench.login);
    let mut nexts = Vec::new();
    for next in 0..200 {
        homes.empty_trash().await.unwrap();
        homes.keep_spares();
        let mut greedy = 0..;
        while greedy
            .next()
            .is_some_and(|n| std::fs::create_dir(bench.path.join(format!("y{next}-{n}"))).is_ok())
        {
        }
        nexts.push(bench.provide("ann").await);
        let _ = homes.keep(&bench.tenant("ann"), Duration::from_secs(1));
        let _ = homes.evict(&bench.login);
    }
    drop(homes);
    mount(&["umount"]);
    assert_eq!(provided.unwrap(), Provided::Fresh);
    assert_eq!(owner.unwrap(), 0x7000_0201);
    assert!(evicted.is_ok(), "{kept:?} {evicted:?}");
    let homeless = nexts.iter().position(Result::is_err);
    assert_eq!(homeless, None, "{:?}", nexts.last());
}

#[test]
fn a_folder_that_others_can_change_is_refused() {
    let bench = Bench::new("open");
    std::fs::set_permissions(&bench.path, PermissionsExt::from_mode(0o777)).unwrap();
    let refused = Homes::open(&bench.path, Janitor::default());
    assert!(matches!(refused, Err(HomeError::Unsafe(_))));
    let absent = Homes::open("/no/such/folder", Janitor::default())
        .unwrap_err()
        .to_string();
    assert!(absent.contains("/no/such/folder"), "{absent}");
}

/// The unit leaves the daemon four capabilities; none of them opens what belongs to a user. The test
/// runs its own program again with no others, in two halves between which root's files appear.
#[test]
fn homes_need_no_capability_beyond_those_of_the_unit() {
    let bench = Bench::new_or_old("capabilities", std::env::var_os("HALF").is_none());
    match std::env::var("HALF").as_deref() {
        Ok(half) => run(
            match half {
                "first" => Half::First,
                _ => Half::Second,
            },
            &bench,
        ),
        Err(_) => {
            let half = |name: &str| {
                let done = std::process::Command::new("setpriv")
                    .args([
                        "--bounding-set",
                        "-all,+setuid,+setgid,+kill,+chown",
                        "--no-new-privs",
                    ])
                    .arg(std::env::current_exe().unwrap())
                    .args([
                        "--exact",
                        "homes_need_no_capability_beyond_those_of_the_unit",
                    ])
                    .env("HALF", name)
                    .status()
                    .expect("this test needs setpriv");
                assert!(done.success(), "{name} half");
            };
            half("first");
            std::fs::create_dir_all(bench.home().join("by/sudo/deep")).unwrap();
            half("second");
            assert_eq!(bench.names(), ["zed"]);
        }
    }
}

enum Half {
    First,
    Second,
}

fn run(half: Half, bench: &Bench) {
    use std::os::unix::process::CommandExt;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match half {
            Half::First => {
                bench.provide("ann").await.unwrap();
                let script = "mkdir -p a/b && echo x > a/b/c && chmod 0 a/b && chmod 0500 .";
                let as_user = std::process::Command::new("sh")
                    .args(["-c", script])
                    .current_dir(bench.path.join("zed"))
                    .uid(0x7000_0201)
                    .status();
                assert!(as_user.unwrap().success());
                bench.homes().keep(&bench.tenant("ann"), KEEP).unwrap();
                let back = bench.provide("ann").await.unwrap();
                assert_eq!(back, Provided::Kept);
            }
            Half::Second => {
                bench.homes().keep(&bench.tenant("ann"), KEEP).unwrap();
                let next = bench.provide("bea").await.unwrap();
                assert_eq!(next, Provided::Fresh);
                bench.homes().empty_trash().await.unwrap();
            }
        }
    });
}
